"""Further questions about what a model remembers, one folder each.

A lab is a folder `labs/NAME` whose `__init__.py` says in one line what it asks, and whose
`NAME_cli.py` holds its verbs as a typer application `app`; it then is `pythia-profile lab NAME`.
Labs use the rooms of the core; no room but the command line knows them, and none knows another.
"""
