"""What can be wrong with one MQTT message. It is recorded as refused and acknowledged: the broker would only send it again."""

from typing import ClassVar

from hl7.devices.errors import DeviceError
from hl7.errors import Fault


class MqttError(DeviceError):
    """A message that a feed does not take."""

    code = "MQT-00"
    hint = "A message of the broker that this feed does not take."


class TopicNotListed(MqttError):
    """A topic that no filter of the feed means."""

    code = "MQT-01"
    fault: ClassVar[Fault] = "site"
    hint = "The broker sends a topic that this feed does not list. Add a filter to `topics`, or take the old subscription away at the broker."


class TopicTooLong(MqttError):
    """A topic longer than any device needs."""

    code = "MQT-02"
    hint = "A device uses a topic of more than 1,024 characters, which is cut in the record. Correct the topic at the device or its gateway."


class MaybeRepeated(MqttError):
    """A message that may have been stored before, from a device that does not number its readings."""

    code = "MQT-03"
    fault: ClassVar[Fault] = "site"
    hint = (
        "This reading may be the one before it, sent again after a lost connection: it is kept, and marked. Let the device number its readings,"
        " and name that member in `identity`."
    )
