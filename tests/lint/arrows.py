# SPDX-License-Identifier: BSD-3-Clause
"""Includes point one way, and each third-party header stays where it belongs."""

import os
import re

import tree

# A folder, and the folders whose headers it may include.
ARROWS = {
    "base": {"base"},
    "kvm": {"kvm", "base"},
    "kvm/vm": {"kvm/vm", "kvm", "base"},  # a program of its own
    # Within the data path, and within the control plane: what stands on its own.
    "dataplane/codec": {"dataplane/codec", "dataplane", "base"},
    "dataplane/scan": {"dataplane/scan", "dataplane", "base"},
    "dataplane/seal": {"dataplane/seal", "dataplane", "base"},
    "dataplane/port": {"dataplane/port", "dataplane", "base"},
    "dataplane/rdma": {"dataplane/rdma", "dataplane/codec", "dataplane/link", "dataplane/seal",
                       "dataplane", "base"},
    "dataplane/rel": {"dataplane/rel", "dataplane/codec", "dataplane", "base"},
    "dataplane/link": {"dataplane/link", "dataplane/codec", "dataplane/port", "dataplane/rel",
                       "dataplane/seal", "dataplane", "base"},
    "dataplane": {"dataplane", "dataplane/codec", "dataplane/scan", "dataplane/link",
                  "dataplane/port", "base"},
    "control/conn": {"control/conn", "control", "base"},
    "control/pass": {"control/pass", "dataplane", "base"},
    "control/vmm": {"control/vmm", "control/conn", "control", "kvm", "dataplane", "base"},
    "control/cli": {"control/cli", "control/conn", "control/option", "control/vmm", "control",
                    "kvm", "dataplane", "dataplane/rdma", "base"},
}
DATAPLANE = {f for f in ARROWS if f.startswith("dataplane")}
ARROWS["control/session"] = {"control/session", "control/conn", "control/pass", "control/vmm",
                             "control", "kvm", "base"} | DATAPLANE
# The command table names options of a session and of a port; the API speaks to sessions.
ARROWS["control/option"] = {"control/option", "control/session", "control", "base"} | DATAPLANE
ARROWS["control/api"] = {"control/api", "control/option", "control/session", "control/conn",
                         "control", "base"} | DATAPLANE
ARROWS["control"] = {f for f in ARROWS if f.startswith("control/")} | {"control", "base", "kvm"} \
    | DATAPLANE
# A third-party header, and where it may stand. bench and tests may include all.
THIRD_PARTY = [
    (r"rte_.*", r"dataplane/"),
    (r"isa-l.*|igzip_lib\.h|crc\.h|raid\.h|mem_routines\.h", r"dataplane/"),
    (r"(infiniband|rdma)/.*", r"dataplane/rdma/"),
    (r"linux/kvm\.h", r"kvm/"),
    (r"linux/userfaultfd\.h", r"kvm/"),
    (r"openssl/.*", r"(control/conn/(tls|keys)|dataplane/seal/seal_openssl)"),
    (r"(intel-)?ipsec-mb\.h", r"dataplane/seal/seal_ipsecmb"),
    (r"(event2/|event).*\.h|jansson\.h", r"control/"),
    (r"numa(if)?\.h", r"(control|dataplane|kvm|base)/"),
]
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def folder(name):
    """The longest folder of ARROWS that the file is in, or its top folder."""
    fits = [f for f in ARROWS if name.startswith(f + "/")]
    return max(fits, key=len) if fits else name.split("/")[0]


headers = {}
bad = []
for name in tree.files(".h"):
    if folder(name) in ARROWS and folder(name) != "kvm/vm":  # nobody else sees that folder
        other = headers.setdefault(os.path.basename(name), name)
        if other != name:
            bad.append(f"{name}: {other} has the same name, so an include would be ambiguous")

names = tree.files(".c", ".h")
for name in names:
    own = folder(name)
    for kind, header in INCLUDE.findall(tree.text(name)):
        if kind == "<":
            for pattern, where in THIRD_PARTY:
                if own in ARROWS and re.fullmatch(pattern, header) and not re.match(where, name):
                    bad.append(f"{name}: <{header}> belongs in {where} only")
            continue
        beside = os.path.normpath(os.path.join(os.path.dirname(name), header))
        found = beside if (tree.ROOT / beside).is_file() else headers.get(os.path.basename(header))
        if own not in ARROWS:
            continue
        if not found:
            bad.append(f'{name}: "{header}" is no header of ours; use <> for those of others')
        elif folder(found) not in ARROWS[own]:
            bad.append(f'{name}: {own} may not include "{header}" of {folder(found)}')
    # What may not be the same in a build that has planted bugs.
    if own.split("/")[0] in ("dataplane", "kvm") and own != "kvm/vm" and \
            '"plant.h"' in tree.text(name):
        top, _, rest = name.partition("/")
        text = tree.text(f"{top}/meson.build")
        if f"'{rest}'" not in text.partition(f"{top}_planted = ")[2].partition(")")[0]:
            bad.append(f"{name}: it includes plant.h: name it in meson.build's {top}_planted")
tree.end(bad, len(names))
