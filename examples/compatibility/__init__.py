"""Real packages that train through Lightning: does the callback leave them as they are, and right?"""
