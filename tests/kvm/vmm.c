// SPDX-License-Identifier: BSD-3-Clause
// The VMM of the agent's tests. Its memory is a memfd of three chunks and a bit; it has no guest,
// the test writes the memory itself.

#include "vmm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/kvm.h>

static int take_fail(struct vmm *v)
{
	return atomic_exchange(&v->fail, 0);
}

static int on_pause(void *arg)
{
	struct vmm *v = arg;

	v->pauses++;
	return take_fail(v);
}

static int on_resume(void *arg)
{
	struct vmm *v = arg;

	v->resumes++;
	return take_fail(v);
}

static int on_throttle(void *arg, unsigned percent)
{
	struct vmm *v = arg;

	v->percent = (int)percent;
	return 0;
}

static int on_save(void *arg, int fd)
{
	struct vmm *v = arg;

	v->saves++;
	/* Saving may write guest memory: told, not seen by a vCPU's log. */
	v->mem[PAGE_BYTES] = 7;
	godwit_wrote(v->g, 0, PAGE_BYTES, 1);
	return write(fd, "state", 5) == 5 ? take_fail(v) : -EIO;
}

static int on_load(void *arg, int fd, uint64_t bytes)
{
	struct vmm *v = arg;
	char buf[5];

	v->loads++;
	if (bytes != 5 || read(fd, buf, 5) != 5 || memcmp(buf, "state", 5) != 0)
		return -EINVAL;
	return take_fail(v);
}

static void on_end(void *arg)
{
	((struct vmm *)arg)->ends++;
}

static int on_track(void *arg, int on)
{
	struct vmm *v = arg;

	v->tracking = on;
	return on ? take_fail(v) : 0;
}

static int on_free_request(void *arg, uint32_t id)
{
	((struct vmm *)arg)->free_id = (int)id;
	return 0;
}

static const struct godwit_ops ops = {
	on_pause, on_resume, on_throttle, on_save, on_load, on_end, on_track, on_free_request};

int vmm_open(struct vmm *v, int incoming, char why[256])
{
	static atomic_int number;
	char path[64];

	snprintf(path, sizeof(path), "/tmp/godwit-test-%d-%d", getpid(), ++number);
	return vmm_open_at(v, path, incoming, why);
}

static int make_memory(struct vmm *v)
{
	memset(v, 0, sizeof(*v));
	v->fd = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (v->fd < 0 || ftruncate(v->fd, VMM_BYTES) < 0)
		return -1;
	v->mem = mmap(NULL, VMM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	return v->mem == MAP_FAILED ? -1 : 0;
}

/* c: what is not the same for all. vcpu_fd: -1, or of its one vCPU. */
static int open_with(struct vmm *v, const char *path, struct godwit_config c,
	const struct view *view, int vcpu_fd, char why[256])
{
	snprintf(v->path, sizeof(v->path), "%s", path);
	c.api_version = GODWIT_API_VERSION;
	c.name = "guest";
	c.socket = v->path;
	c.ops = &ops;
	c.opaque = v;
	v->g = godwit_new(&c, why, 256);
	if (v->g == NULL || godwit_add_region(v->g, "ram", v->fd, VMM_BYTES, v->mem, 4096) != 0 ||
		godwit_add_view(v->g, 0, view->slot, 0, view->gpa, 0, VMM_BYTES, 0) != 0 ||
		(vcpu_fd >= 0 && godwit_add_vcpu(v->g, vcpu_fd) != 0))
		return -1;
	return godwit_start(v->g, why, 256);
}

int vmm_open_at(struct vmm *v, const char *path, int incoming, char why[256])
{
	struct godwit_config c = {.vm_fd = -1, .incoming = incoming};

	if (make_memory(v) < 0)
		return -1;
	return open_with(v, path, c, &(struct view){0}, -1, why);
}

int vmm_open_kvm(struct vmm *v, int vm_fd, char why[256])
{
	struct kvm_userspace_memory_region slot = {.memory_size = VMM_BYTES};
	struct godwit_config c = {.vm_fd = vm_fd};
	char path[64];

	snprintf(path, sizeof(path), "/tmp/godwit-test-%d-kvm", getpid());
	if (make_memory(v) < 0 || open_with(v, path, c, &(struct view){0}, -1, why) < 0)
		return -1;
	slot.userspace_addr = (uintptr_t)v->mem;
	return ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &slot);
}

int vmm_open_ring(struct vmm *v, struct guest32 **guest, uint32_t ring_bytes, struct err *e)
{
	static struct region_map map;
	struct view view = {.gpa = VMM_RING_GPA, .bytes = VMM_BYTES, .slot = 1};
	struct godwit_config c = {.tracker = GODWIT_TRACK_KVM_RING, .ring_bytes = ring_bytes};
	char path[64];
	int rc;

	snprintf(path, sizeof(path), "/tmp/godwit-test-%d-ring", getpid());
	region_map_init(&map);
	if (make_memory(v) < 0)
		return err_sys(e, errno, "no memory");
	rc = region_add(&map, "ram", v->fd, VMM_BYTES, PAGE_BYTES, e);
	if (rc < 0)
		return rc;
	map.r[0].base = v->mem;
	rc = region_add_view(&map.r[0], &view, e);
	if (rc == 0)
		rc = guest32_open(guest, &map, ring_bytes, e);
	if (rc != 0)
		return rc;
	c.vm_fd = guest32_vm_fd(*guest);
	return open_with(v, path, c, &view, guest32_vcpu_fd(*guest), e->text);
}

void vmm_close(struct vmm *v)
{
	godwit_free(v->g);
	munmap(v->mem, VMM_BYTES);
	close(v->fd);
}

int vmm_wait(struct vmm *v, enum godwit_state s)
{
	for (unsigned i = 0; i < 60000; i++) {
		if (godwit_get_state(v->g) == s)
			return 0;
		usleep(1000);
	}
	return -1;
}

int vmm_start(struct vmm *v, int incoming)
{
	char why[256] = "";

	assert_return_code(vmm_open(v, incoming, why), 0);
	return vmm_connect(v);
}

int vmm_connect(const struct vmm *v)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", v->path);
	if (connect(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		close(sock);
		return -1;
	}
	return sock;
}

int vmm_ask(int sock, uint16_t type, uint64_t a, uint64_t b, int fd, struct agent_msg *answer)
{
	struct agent_msg ask = {.type = type, .seq = 77, .a = a, .b = b, .fd = fd};
	struct agent_msg own;
	struct err e;
	int rc = agent_send(sock, &ask);

	if (rc == 0)
		rc = agent_recv(sock, answer != NULL ? answer : &own, &e);
	if (rc < 0)
		return rc;
	if (answer == NULL) {
		answer = &own;
		close_fd(&own.fd);
	}
	if (answer->type != (type | AGENT_ANSWER) || answer->seq != 77)
		return -EPROTO;
	return answer->status;
}

int vmm_hello(int sock, uint64_t **planes, struct agent_hello *h)
{
	struct agent_msg m;
	struct err e;
	int rc = vmm_ask(sock, AGENT_HELLO, AGENT_VERSION, 0, -1, &m);

	if (rc < 0)
		return rc;
	if (h != NULL)
		rc = agent_get_hello(&m, h, &e);
	if (planes != NULL)
		*planes = mmap(NULL, 2 * m.b * 8, PROT_READ | PROT_WRITE, MAP_SHARED, m.fd, 0);
	close(m.fd);
	return rc;
}
