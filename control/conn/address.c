// SPDX-License-Identifier: BSD-3-Clause
// Socket addresses as people write them. Pure but for address_of_peer(); no state.

#include "address.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool port_ok(const char *port)
{
	size_t len = strlen(port);

	return len > 0 && len <= 5 && strspn(port, "0123456789") == len && atoi(port) <= 65535;
}

int address_split(const char *text, char host[ADDRESS_HOST], char port[6], struct err *e)
{
	const char *name = text, *end, *colon;

	if (text[0] == '[') {
		name = text + 1;
		end = strchr(name, ']');
		if (end == NULL || (end[1] != ':' && end[1] != '\0'))
			return err_set(
				e, EINVAL, "address '%.80s': write [IPV6-ADDRESS]:PORT", text);
		colon = end[1] == ':' ? end + 1 : NULL;
	} else {
		colon = strrchr(text, ':');
		end = colon ? colon : text + strlen(text);
		if (colon != NULL && memchr(text, ':', (size_t)(colon - text)) != NULL)
			return err_set(e, EINVAL,
				"address '%.80s': put an IPv6 address in brackets, [ADDRESS]:PORT",
				text);
	}
	if ((size_t)(end - name) >= ADDRESS_HOST)
		return err_set(e, EINVAL, "address '%.80s...': the host's name is too long", text);
	if (colon != NULL && !port_ok(colon + 1))
		return err_set(
			e, EINVAL, "address '%.80s': the port is a number up to 65535", text);
	for (const char *p = name; p < end; p++)
		if (isspace((unsigned char)*p) || iscntrl((unsigned char)*p))
			return err_set(e, EINVAL, "address '%.80s': no blanks, please", text);
	if (end == name && colon == NULL)
		return err_set(e, EINVAL, "the address is empty: write HOST:PORT");
	snprintf(host, ADDRESS_HOST, "%.*s", (int)(end - name), name);
	snprintf(port, 6, "%s", colon ? colon + 1 : ADDRESS_PORT);
	return 0;
}

void address_text(const struct sockaddr *sa, socklen_t len, char text[ADDRESS_TEXT])
{
	char ip[INET6_ADDRSTRLEN] = "?";

	if (sa->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
		const struct sockaddr_in *in = (const void *)sa;

		inet_ntop(AF_INET, &in->sin_addr, ip, sizeof(ip));
		snprintf(text, ADDRESS_TEXT, "%s:%u", ip, ntohs(in->sin_port));
	} else if (sa->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
		const struct sockaddr_in6 *in = (const void *)sa;

		if (IN6_IS_ADDR_V4MAPPED(&in->sin6_addr)) {
			inet_ntop(AF_INET, &in->sin6_addr.s6_addr[12], ip, sizeof(ip));
			snprintf(text, ADDRESS_TEXT, "%s:%u", ip, ntohs(in->sin6_port));
			return;
		}
		inet_ntop(AF_INET6, &in->sin6_addr, ip, sizeof(ip));
		snprintf(text, ADDRESS_TEXT, "[%s]:%u", ip, ntohs(in->sin6_port));
	} else {
		snprintf(text, ADDRESS_TEXT, "unknown address");
	}
}

void address_of_peer(int fd, char text[ADDRESS_TEXT])
{
	struct sockaddr_storage ss = {0};
	socklen_t len = sizeof(ss);
	struct ucred who;
	socklen_t who_len = sizeof(who);

	snprintf(text, ADDRESS_TEXT, "unknown peer");
	if (getpeername(fd, (struct sockaddr *)&ss, &len) != 0)
		return;
	if (ss.ss_family != AF_UNIX)
		address_text((struct sockaddr *)&ss, len, text);
	else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &who_len) == 0)
		snprintf(text, ADDRESS_TEXT, "uid %u pid %d", who.uid, who.pid);
}
