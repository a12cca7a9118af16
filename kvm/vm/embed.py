# SPDX-License-Identifier: BSD-3-Clause
"""Writes a binary file as a C array: embed.py INPUT OUTPUT NAME"""

import sys

data = open(sys.argv[1], "rb").read()
with open(sys.argv[2], "w") as out:
    out.write("#include <stdint.h>\nstatic const uint8_t %s[] = {\n" % sys.argv[3])
    for at in range(0, len(data), 16):
        out.write("\t" + "".join("0x%02x, " % b for b in data[at : at + 16]).rstrip() + "\n")
    out.write("};\n")
