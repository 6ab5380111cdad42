"""Errors of the data order, and the root from which every error of both packages descends.

A message says what is wrong, where, what was got, what was expected and what to do next, in one
line. `exit_code` is what the command line answers with: 1 failed, 2 usage or not found, 4 refused
before any work.
"""


class ProfileError(Exception):
    """Root of all errors that a user can cause; caught and printed as one line."""

    exit_code = 1


class OrderError(ProfileError):
    """Something about token rows, their files or their order is wrong."""


class RowRangeError(OrderError, IndexError):
    """A row, step, document or token was asked for that does not exist."""

    exit_code = 2


class StoreError(OrderError):
    """A file of token rows is damaged, or is not what its index or its name says."""


class StoreNotFoundError(StoreError):
    """A store was named that does not exist."""

    exit_code = 2


class RemoteError(OrderError):
    """The hub, or what lies behind it, did not give what was asked for, also after trying again."""


class RemoteNotFoundError(RemoteError):
    """A repository, revision or file was named that the hub does not have, or does not show us."""

    exit_code = 2
