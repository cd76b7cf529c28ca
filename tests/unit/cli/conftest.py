"""Commands are declared as a process needs them; these tests run many in one."""

from coordinator.cli.families import declare

declare()
