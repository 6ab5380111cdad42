"""What can be wrong with what the lab `recall` is given."""

from pythia_profile.errors import ProfileError

__all__ = ["RecallError"]


class RecallError(ProfileError):
    """Rows, lengths, texts or models do not belong together, or allow no such estimate."""

    exit_code = 2
