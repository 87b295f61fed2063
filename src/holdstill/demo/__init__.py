"""The demonstration: live databases, backed up with and without holdstill, restored and audited."""
