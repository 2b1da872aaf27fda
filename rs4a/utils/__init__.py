"""Helpers of all rooms, which are about no subject of smoothing."""
