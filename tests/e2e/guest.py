# SPDX-License-Identifier: BSD-3-Clause
"""The Linux guest wherever it is now: it hops from QEMU to QEMU, and is asked each time whether
all is as it left it."""

from godwit import wait_until


class Guest:
    def __init__(self, stage, shape):
        self.stage = stage
        self.shape = shape
        self.at = stage.qemu(shape)
        self.talk = shape.net.talk() if shape.net else None
        self.hops = 0

    def waiting(self):
        """A QEMU that waits for it, of the same shape, with what was plugged in meanwhile."""
        return self.stage.qemu(self.shape, incoming=True, dimms=self.at.dimms)

    def arrived(self, there, last):
        """It goes on there, whole, and nowhere else."""
        assert there.wait_beats() > last
        there.no_complaint()
        wait_until(f"{self.at.name} runs no more", lambda: not self.at.runs())
        self.at.close()
        self.at = there
        if self.talk:
            self.talk.goes_on()

    def hop(self, pair, *how):
        """Moves it by Godwit; the report."""
        self.hops += 1
        there = self.waiting()
        last = self.at.wait_beats()
        here, away = pair
        if "--downtime" not in how:
            how += ("--downtime", "5s")  # a host that is short of CPU takes longer than 300 ms
        report = self.stage.migrate(here, away, self.at, there, f"hop{self.hops}", "--verify",
                                    "memory", *how).done()
        assert report["verified_pages"] > 0
        self.arrived(there, last)
        return report

    def end(self):
        """The last look: all memory, the disk, the connection."""
        assert self.at.check() > 0
        if self.shape.disk:
            self.at.disk_clean()
        if self.talk:
            self.talk.goes_on()

    def close(self):
        if self.talk:
            self.talk.close()
