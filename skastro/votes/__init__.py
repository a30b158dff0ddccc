"""Volunteers' votes: the questions of a campaign, their order, and tables of counts."""

from skastro.votes.campaigns import SCHEMAS, get_schema
from skastro.votes.schema import VoteSchema

__all__ = ["SCHEMAS", "VoteSchema", "get_schema"]
