/* SPDX-License-Identifier: BSD-3-Clause */
/* Scripts that complete the command lines of godwit and godwitd, made from the tables of commands
 * and options. */
#ifndef GODWIT_CONTROL_COMPLETION_H
#define GODWIT_CONTROL_COMPLETION_H

#include <stdio.h>

/* shell: "bash", "zsh". 0, or -EINVAL: there is none for it. */
int completion_print(FILE *out, const char *shell);

#endif
