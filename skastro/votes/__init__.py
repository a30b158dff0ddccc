"""Volunteers' votes: which questions a campaign asks, in what order, and what their counts say."""

from skastro.votes.campaigns import SCHEMAS, get_schema
from skastro.votes.schema import VoteSchema

__all__ = ["SCHEMAS", "VoteSchema", "get_schema"]
