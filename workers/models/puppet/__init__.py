"""A portrait that follows the performer's face."""

from workers.models.puppet.model import Puppet

__all__ = ["Puppet"]
