"""What is wrong with the environment."""


class SettingsError(ValueError):
    """An environment variable is missing or wrong. The message names it and says what it must hold."""
