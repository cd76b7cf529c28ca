"""Faults on the real thing: real processes talk to stand-ins for AWS through a proxy of ours that hurts."""
