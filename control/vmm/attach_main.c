// SPDX-License-Identifier: BSD-3-Clause
// godwit-attach: looks into VMMs for a godwitd, which starts it and has not the right to. It ends
// with the daemon. See helper.h for what it can be asked.

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "confine.h"
#include "helper.h"

int main(int argc, char **argv)
{
	struct err e;
	int rc;

	if (argc > 1) {
		printf("godwit-attach is run by godwitd, and looks into unmodified VMMs for it; "
		       "see "
		       "godwit-attach(8).\n");
		return strcmp(argv[1], "--help") == 0 ? 0 : 2;
	}
	signal(SIGPIPE, SIG_IGN);
	rc = confine_capabilities(CONFINE_ATTACH, &e);
	if (rc == 0)
		rc = confine_calls(CONFINE_ATTACH, &e);
	if (rc < 0) {
		fprintf(stderr, "godwit-attach: %s\n", e.text);
		return 1;
	}
	rc = helper_serve(HELPER_FD);
	if (rc < 0)
		fprintf(stderr, "godwit-attach: ended by a question that is none: %s\n",
			strerror(-rc));
	return rc < 0 ? 1 : 0;
}
