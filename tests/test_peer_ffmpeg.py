"""An MPEG transport stream from ffmpeg to a group is relayed to another group, where ffprobe finds it whole."""

from __future__ import annotations

import itertools
import signal
import sys
from typing import TYPE_CHECKING

import pytest
from peerlab import TIMEOUT, output, running, wait_for_member

from mcastfast import Receiver, Sender

if TYPE_CHECKING:
    from netlab import Lan3, Link

pytestmark = pytest.mark.needs("namespaces", "ffmpeg", "ffprobe")

PORT = 5004
FIRST = "239.1.2.3"
SECOND = "239.1.2.4"
FRAMES = 50
DAMAGE = ("Continuity check failed", "Packet corrupt")


def _source(link: Link) -> tuple[str, ...]:
    """ffmpeg's command line for a test picture, twice as fast as life, for longer than any test takes."""
    picture = "testsrc2=duration=60:size=320x180:rate=25"
    target = f"udp://{FIRST}:{PORT}?pkt_size=1316&localaddr={link.ipv4}&ttl=4"
    encoder = ("-c:v", "mpeg2video", "-b:v", "500k", "-f", "mpegts")
    return ("ffmpeg", "-v", "error", "-nostdin", "-readrate", "2", "-f", "lavfi", "-i", picture, *encoder, target)


def _probe(link: Link) -> tuple[str, ...]:
    """ffprobe's command line that reads FRAMES frames of the second group, shows their flags and ends."""
    probing = ("-probesize", "100000", "-analyzeduration", "400000")
    url = f"udp://{SECOND}:{PORT}?localaddr={link.ipv4}&timeout={int(TIMEOUT * 1e6)}"
    reading = ("-read_intervals", f"%+#{FRAMES}", "-show_entries", "packet=flags", "-of", "csv", url)
    return ("ffprobe", "-v", "debug", "-hide_banner", *probing, *reading)


@pytest.mark.parametrize("damaged", [False, True], ids=["whole", "damaged"])
def test_a_relayed_transport_stream_is_damaged_only_when_datagrams_are_left_out(
    lan3: Lan3, engine: str, damaged: bool
) -> None:
    """The damaged stream shows that ffprobe would have told."""
    counter = itertools.count()
    with (
        lan3.receiver.namespace,
        Receiver(f"{FIRST}:{PORT}", interface=lan3.receiver.name, engine=engine) as receiver,
        Sender(f"{SECOND}:{PORT}", interface=lan3.receiver.name, engine=engine) as sender,
        running(lan3.second, *_probe(lan3.second)) as probe,
    ):
        wait_for_member(probe, lan3.second, SECOND, PORT)
        with running(lan3.first, *_source(lan3.first)):
            while probe.poll() is None:
                batch = receiver.recv_batch(timeout=TIMEOUT)
                if damaged:
                    sender.send_batch([payload for payload in batch.payloads() if next(counter) % 20 != 7])
                else:
                    sender.send_batch(batch)
        report = output(probe)
        assert receiver.stats.kernel_drops == 0
    assert report.count("packet,") >= FRAMES
    assert [sign in report for sign in DAMAGE] == [damaged, damaged], report


def test_the_relay_command_keeps_a_transport_stream_whole(lan3: Lan3) -> None:
    name = lan3.receiver.name
    command = ("relay", f"{FIRST}:{PORT}", f"{SECOND}:{PORT}", "--in-interface", name, "--out-interface", name)
    with (
        running(lan3.receiver, sys.executable, "-m", "mcastfast", *command) as relay,
        running(lan3.second, *_probe(lan3.second)) as probe,
    ):
        wait_for_member(relay, lan3.receiver, FIRST, PORT)
        wait_for_member(probe, lan3.second, SECOND, PORT)
        with running(lan3.first, *_source(lan3.first)):
            report = output(probe)
        relay.send_signal(signal.SIGINT)
        summary = output(relay)
    assert relay.returncode == 0, summary
    assert report.count("packet,") >= FRAMES
    assert not [sign for sign in DAMAGE if sign in report], report
