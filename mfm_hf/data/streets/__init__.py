"""The built-in pair of domains, `streets:game` and `streets:real`, drawn by a program."""
