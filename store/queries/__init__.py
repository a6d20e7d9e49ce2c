"""Every query but the charts' selects: plain functions, Session first, within a team or one of its repositories."""
