// SPDX-License-Identifier: BSD-3-Clause
// godwitd: the daemon of one host. main() runs the control loop, which is the only thread that
// decides anything; DPDK's worker lcores move pages, and helper threads resolve names and digest
// memory. Each step of the start either succeeds or ends the daemon with what to do.

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "address.h"
#include "api.h"
#include "beside.h"
#include "clock.h"
#include "config.h"
#include "confine.h"
#include "helper.h"
#include "lcore.h"
#include "listen.h"
#include "log.h"
#include "metrics.h"
#include "notify.h"
#include "option.h"
#include "ports.h"
#include "rdma.h"
#include "session.h"
#include "statedir.h"
#include "telemetry.h"
#include "workers.h"

#define PARK_MS 200 /* between looks for lcores that have nothing left */
#define STOP_S  15  /* for sessions to end once the daemon is told to */

static const int stop_signals[] = {SIGTERM, SIGINT, SIGHUP};
#define STOP_SIGNALS (sizeof(stop_signals) / sizeof(stop_signals[0]))

struct daemon {
	struct option_set options;
	struct event_base *base;
	struct session_host host;
	struct eal_info eal;
	struct ports ports;
	struct rdma *rdma;
	struct api *api;
	struct metrics *metrics;
	struct listen *listen;
	struct event *signals[STOP_SIGNALS];
	struct event *park;
	char address[ADDRESS_HOST + 16]; /* that is listened on, with the port that was bound */
	int state_fd;                    /* holds the state directory */
	bool eal_up;
	uint64_t stop_ns; /* when the daemon goes whether sessions have ended or not; 0: it stays */
};

/* Flags win over the file, so they are read again after it. */
static int read_options(
	struct option_set *o, struct ports *ports, int argc, char **argv, struct err *e)
{
	const char *path;
	int rc;

	option_init(o, option_godwitd, OPTION_FLAG | OPTION_FILE);
	o->where = OPTION_FLAG;
	rc = option_argv(o, argc, argv, NULL, 0, e);
	if (rc < 0 || option_number(o, "help") || option_number(o, "version"))
		return rc;
	path = option_text(o, "config");
	if (option_given(o, "config") || access(path, F_OK) == 0) {
		struct option_set file;

		option_init(&file, option_godwitd, OPTION_FLAG | OPTION_FILE);
		file.where = OPTION_FILE;
		rc = config_read(&file, ports, path, e);
		if (rc < 0)
			return rc;
		*o = file;
		o->where = OPTION_FLAG;
		rc = option_argv(o, argc, argv, NULL, 0, e);
	}
	return rc < 0 ? rc : ports_check(ports, e);
}

static void about(void *arg, json_t *o)
{
	struct daemon *d = arg;

	json_object_set_new(o, "pid", json_integer(getpid()));
	json_object_set_new(o, "listen", json_string(d->address));
	json_object_set_new(o, "port", json_integer(listen_port(d->listen)));
	json_object_set_new(o, "state_dir", json_string(d->host.state_dir));
	json_object_set_new(o, "memory", json_string(d->eal.chose));
	json_object_set_new(o, "cores", workers_status());
	json_object_set_new(o, "insecure", json_boolean(d->host.tls == NULL));
	if (d->host.tls != NULL)
		json_object_set_new(o, "certificate", json_string(tls_host_names(d->host.tls)));
	json_object_set_new(o, "ports", ports_status(&d->ports));
	json_object_set_new(o, "rdma", rdma_status(d->host.rdma));
}

static void on_peer(void *arg, int fd, struct tls *tls, const struct preamble *p)
{
	struct daemon *d = arg;

	session_accept(&d->host, fd, tls, p);
}

static void count_running(void *arg, struct session *s)
{
	json_t *status = session_status(s);
	const char *state = json_string_value(json_object_get(status, "state"));

	if (state != NULL && strcmp(state, "ended") != 0 && strcmp(state, "undecided") != 0)
		++*(unsigned *)arg;
	json_decref(status);
}

static void publish(struct daemon *d)
{
	uint64_t sum[2][STATS];

	if (option_number(&d->options, "telemetry") == 0)
		return;
	session_counters(sum);
	telemetry_publish(sum);
}

static void on_park(evutil_socket_t fd, short what, void *arg)
{
	struct daemon *d = arg;
	unsigned running = 0;

	(void)fd;
	(void)what;
	lcore_park();
	publish(d);
	if (d->stop_ns == 0)
		return;
	session_each(count_running, &running);
	if (running > 0 && clock_ns() < d->stop_ns)
		return;
	if (running > 0)
		log_warn("godwitd", "%u migrations had not ended after %d s", running, STOP_S);
	event_base_loopbreak(d->base);
}

static void on_signal(evutil_socket_t sig, short what, void *arg)
{
	struct daemon *d = arg;

	(void)what;
	/* Some wrappers deliver one signal twice: that is no second wish. */
	if (d->stop_ns != 0 && clock_ns() < d->stop_ns - (STOP_S - 1) * NS_PER_S)
		return;
	if (d->stop_ns != 0) {
		log_warn("godwitd", "told to end twice (%s): ending at once", strsignal((int)sig));
		event_base_loopbreak(d->base);
		return;
	}
	log_info("godwitd", "told to end (%s)", strsignal((int)sig));
	notify_manager("STOPPING=1");
	d->stop_ns = clock_ns() + STOP_S * NS_PER_S;
	session_shutdown();
}

/* Its timers are as exact as the kernel's: by default they go by a clock that moves once in 4 ms at
 * 250 HZ, and each wait of a switch-over for a core's word was as long. */
static struct event_base *new_loop(void)
{
	struct event_config *c = event_config_new();
	struct event_base *base = NULL;

	if (c != NULL && event_config_set_flag(c, EVENT_BASE_FLAG_PRECISE_TIMER) == 0)
		base = event_base_new_with_config(c);
	if (c != NULL)
		event_config_free(c);
	return base;
}

static int start_loop(struct daemon *d, struct err *e)
{
	const struct timeval park = {.tv_usec = PARK_MS * 1000};

	d->base = new_loop();
	if (d->base == NULL)
		return err_set(
			e, ENOMEM, "cannot start the control loop: no memory or descriptors");
	for (size_t i = 0; i < STOP_SIGNALS; i++) {
		d->signals[i] = evsignal_new(d->base, stop_signals[i], on_signal, d);
		if (d->signals[i] == NULL || event_add(d->signals[i], NULL) != 0)
			return err_set(e, ENOMEM, "cannot start the control loop: no memory");
	}
	d->park = event_new(d->base, -1, EV_PERSIST, on_park, d);
	if (d->park == NULL || event_add(d->park, &park) != 0)
		return err_set(e, ENOMEM, "cannot start the control loop: no memory");
	return 0;
}

static int start_listening(struct daemon *d, struct err *e)
{
	const char *asked = option_text(&d->options, "listen");
	char host[ADDRESS_HOST] = "", port[6];
	int rc = listen_new(&d->listen, d->base, asked, on_peer, d, e);
	bool v6;

	if (rc < 0)
		return rc;
	listen_secure(d->listen, d->host.tls);
	address_split(asked, host, port, NULL);
	v6 = host[0] == '\0' || strchr(host, ':') != NULL;
	snprintf(d->address, sizeof(d->address), "%s%s%s:%u", v6 ? "[" : "",
		host[0] ? host : "::", v6 ? "]" : "", listen_port(d->listen));
	return 0;
}

static int start_api(struct daemon *d, struct err *e)
{
	const char *mode = option_text(&d->options, "api-mode");
	const struct api_config c = {
		.base = d->base,
		.host = &d->host,
		.path = option_text(&d->options, "api"),
		.mode = (mode_t)strtoul(mode, NULL, 8),
		.group = option_text(&d->options, "api-group"),
		.readers = option_text(&d->options, "api-readers"),
		.about = about,
		.arg = d,
	};

	if (strlen(mode) > 4 || strspn(mode, "01234567") != strlen(mode) || c.mode > 0777)
		return err_set(e, EINVAL, "api-mode: '%.20s' is no octal mode such as 0660", mode);
	return api_new(&d->api, &c, e);
}

static int start_metrics(struct daemon *d, struct err *e)
{
	const struct option_set *o = &d->options;
	const char *readers = option_text(o, "api-readers");
	bool everybody = strcmp(readers, "everybody") == 0;
	bool of_readers = *readers != '\0' && !everybody;
	const struct metrics_config c = {
		.base = d->base,
		.where = option_text(o, "metrics"),
		.group = of_readers ? readers : option_text(o, "api-group"),
		.group_option = of_readers ? "api-readers" : "api-group",
		.everybody = everybody,
		.more = workers_metrics,
	};

	return option_given(o, "metrics") ? metrics_new(&d->metrics, &c, e) : 0;
}

static int start_workers(struct daemon *d, struct err *e)
{
	int rc = workers_start(&d->options, &d->ports, &d->eal, e);

	if (rc < 0)
		return rc;
	d->eal_up = true;
	d->host.nlcores = d->eal.nlcores;
	rc = ports_open(&d->ports, e);
	if (rc == 0)
		rc = rdma_start(&d->rdma, &d->host.rdma, d->base, &d->options, flows_rdma_asked,
			flows_rdma_removed, NULL, e);
	return rc;
}

static int start_tls(struct daemon *d, struct err *e)
{
	const struct option_set *o = &d->options;
	const struct tls_config c = {
		.dir = option_text(o, "keys"),
		.crl = option_given(o, "crl") ? option_text(o, "crl") : NULL,
		.allow = option_text(o, "allow"),
	};

	if (option_number(o, "insecure")) {
		if (option_given(o, "keys") || option_given(o, "allow") || option_given(o, "crl"))
			return err_set(e, EINVAL,
				"insecure does without keys, allow and crl: leave it out, or them");
		log_warn("godwitd", "insecure: guests travel in plain text, and nobody proves who "
				    "he is");
		return 0;
	}
	if (!option_given(o, "allow"))
		return err_set(e, EINVAL,
			"name in `allow` the hosts that may take part (and keys in `keys`; `godwit "
			"keys` makes them), or say `insecure` on both hosts for plain text");
	return tls_host_new(&d->host.tls, &c, e);
}

/* It keeps the rights that the daemon is about to give up. Guests of other VMMs can do without. */
static void start_helper(struct daemon *d)
{
	char path[BESIDE_BYTES];
	struct err e;

	if (beside_find("godwit-attach", "attaches to unmodified VMMs", path, &e) < 0 ||
		helper_start(&d->host.helper, path, &e) < 0)
		log_warn("godwitd", "guests of QEMU can't be moved: %s", e.text);
}

/* What is quick to fail comes first; the journals are read before anybody is served. */
static int start(struct daemon *d, struct err *e)
{
	struct rlimit files;
	int rc;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	d->host.state_dir = option_text(&d->options, "state-dir");
	d->state_fd = statedir_hold(d->host.state_dir, e);
	if (d->state_fd < 0)
		return d->state_fd;
	rc = start_tls(d, e);
	if (rc == 0)
		rc = start_loop(d, e);
	d->host.base = d->base;
	d->host.ports = &d->ports;
	if (rc == 0)
		rc = start_listening(d, e);
	if (rc == 0)
		rc = start_api(d, e);
	if (rc == 0)
		rc = start_metrics(d, e);
	if (rc == 0)
		start_helper(d);
	if (rc == 0)
		rc = confine_capabilities(CONFINE_DAEMON, e);
	if (rc == 0)
		rc = start_workers(d, e);
	if (rc == 0)
		rc = confine_calls(CONFINE_DAEMON, e);
	if (rc == 0)
		rc = session_recover(&d->host, e);
	return rc;
}

static void stop(struct daemon *d)
{
	api_free(d->api);
	metrics_free(d->metrics);
	listen_free(d->listen);
	for (size_t i = 0; i < STOP_SIGNALS; i++)
		if (d->signals[i] != NULL)
			event_free(d->signals[i]);
	if (d->park != NULL)
		event_free(d->park);
	rdma_stop(d->rdma);
	ports_close(&d->ports);
	if (d->eal_up)
		eal_stop();
	tls_host_free(d->host.tls);
	close_fd(&d->state_fd);
}

static int show_help(void)
{
	printf("usage: godwitd [OPTION...]\n\n"
	       "Moves the memory of this host's virtual machines; godwit tells it what to do.\n"
	       "It stays in the foreground and logs to standard error.\n\noptions:\n");
	option_help(stdout, "--", option_godwitd, OPTION_FLAG);
	printf("\nNetwork ports that DPDK drives, each a section [port NAME] of the configuration "
	       "file, with keys:\n");
	option_help(stdout, "", option_port, OPTION_PORT);
	printf("\nSee also godwitd(8), godwit.conf(5).\n");
	return 0;
}

/* Huge pages that were free a moment ago can be another program's now, and EAL starts once a
 * process: so the daemon begins anew without them. */
static void start_over(struct daemon *d, int argc, char **argv)
{
	char **again = calloc((size_t)argc + 3, sizeof(*again));

	if (again == NULL || !d->eal.huge || d->eal_up ||
		strcmp(option_text(&d->options, "huge"), "auto") != 0) {
		free(again);
		return;
	}
	log_warn("godwitd", "the huge pages were taken meanwhile; starts without them");
	memcpy(again, argv, (size_t)argc * sizeof(*again));
	again[argc] = (char *)"--huge";
	again[argc + 1] = (char *)"no";
	stop(d);
	helper_end(d->host.helper);
	execv("/proc/self/exe", again);
	log_error("godwitd", "cannot start over: %s", strerror(errno));
	_exit(1);
}

int main(int argc, char **argv)
{
	static struct daemon d = {.state_fd = -1};
	enum log_level level = LOG_INFO;
	struct err e;

	log_open();
	if (read_options(&d.options, &d.ports, argc - 1, argv + 1, &e) < 0) {
		fprintf(stderr, "godwitd: %s\n", e.text);
		return 2;
	}
	if (option_number(&d.options, "help"))
		return show_help();
	if (option_number(&d.options, "version")) {
		printf("godwitd %s\n", GODWIT_VERSION);
		return 0;
	}
	log_level_parse(option_text(&d.options, "log-level"), &level);
	log_set_level(level);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a write past a limit is that session's error */
	if (start(&d, &e) < 0) {
		start_over(&d, argc, argv);
		log_error("godwitd", "cannot start: %s", e.text);
		stop(&d);
		return 1;
	}
	/* Tests and scripts wait for this line. */
	log_info("godwitd", "ready on %s, api %s", d.address, option_text(&d.options, "api"));
	notify_manager("READY=1");
	event_base_dispatch(d.base);
	stop(&d);
	log_info("godwitd", "ended");
	return 0;
}
