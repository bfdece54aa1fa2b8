"""Real packages that train through Lightning: left as they are, and measured rightly?"""
