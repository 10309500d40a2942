"""Reading what runs write for TensorBoard, without TensorBoard."""

import struct

from tensorboardX.proto.event_pb2 import Event


def events(workdir):
    """TensorBoard's events: record files of length, checksum, protobuf, checksum."""
    found = []
    for path in sorted((workdir / "tensorboard").rglob("events.out.tfevents.*")):
        data, offset = path.read_bytes(), 0
        while offset + 12 <= len(data):
            (length,) = struct.unpack_from("<Q", data, offset)
            end = offset + 16 + length
            if end > len(data):
                break  # cut short by a kill; TensorBoard stops reading here, too
            found.append((path, Event.FromString(data[offset + 12 : end - 4])))
            offset = end
    return found


def scalars(workdir):
    """{tag: {step: value}} as TensorBoard shows it: a restart hides what came later before it."""
    shown = {}
    for _, event in events(workdir):
        if event.session_log.status == event.session_log.START:
            for steps in shown.values():
                for step in [step for step in steps if step >= event.step]:
                    del steps[step]
        for value in event.summary.value:
            if value.HasField("simple_value"):
                shown.setdefault(value.tag, {})[event.step] = value.simple_value
    return shown
