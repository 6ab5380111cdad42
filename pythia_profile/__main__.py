"""`python -m pythia_profile` is the command `pythia-profile`."""

from pythia_profile.cli import main

main()
