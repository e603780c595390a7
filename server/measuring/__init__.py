"""`fewshot evaluate`: arms over a data set, through the server, as a caller would.

items     the data set: questions with the labels or answers they should get
arms      what is compared: name and wishes of each
asking    items → what the server said, many at once
judging   what was said → figures, paired differences
telling   figures → lines and JSON
command   the command line
"""
