"""The configuration: TOML, checked key by key, turned into frozen structs."""
