"""What measurements cost, beside what other libraries take for the same answer."""
