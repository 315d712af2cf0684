"""The SDKs of CloudEvents read what the service sends."""
