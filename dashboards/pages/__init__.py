"""The pages, one module each; every module holds the `router` of its addresses, and nothing else names them."""

import sys

from fastapi import APIRouter

from cachescope.plugins import discover

PAGES: dict[str, APIRouter] = discover(sys.modules[__name__], "router")
