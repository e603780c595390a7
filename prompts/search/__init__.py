"""Search for wording and worked examples: propose, race, confirm on held-out items.

wording     what of a template may change, and how a changed one is written down
proposing   new instructions and sets of examples
splits      items to show, to search by, and to judge by, kept apart
running     rounds of races, baselines, the one comparison on held-out items
report      what was found, as JSON, Markdown and a plot
"""
