"""What `wasl simulate` can pretend to be besides a hospital: one command, one file."""

from typing import Final

import click

from node.tools.simulate_astm import astm_command
from node.tools.simulate_folder import folder_command
from node.tools.simulate_law import law_command
from node.tools.simulate_lines import lines_command
from node.tools.simulate_modbus import modbus_command
from node.tools.simulate_mqtt import mqtt_command
from node.tools.simulate_pcd01 import pcd01_command
from node.tools.simulate_poct1a import poct1a_command

COMMANDS: Final[tuple[click.Command, ...]] = (
    astm_command, folder_command, law_command, lines_command, modbus_command, mqtt_command, pcd01_command, poct1a_command,
)  # fmt: skip
