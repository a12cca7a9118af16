// SPDX-License-Identifier: BSD-3-Clause
// What KVM offers of a vCPU's and a VM's state, to and from sections. Run by the agent's thread
// with all vCPUs held. Invariants: sizes are checked before anything is installed; an MSR that this
// host refuses is an error that names it, unless it holds the value already.

#include "machine.h"

#include "ioctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MSRS_MAX 1024u

// Structs with a flexible tail, and room for that.
union msr_list {
	struct kvm_msr_list head;
	uint8_t room[sizeof(struct kvm_msr_list) + MSRS_MAX * sizeof(uint32_t)];
};

union one_msr {
	struct kvm_msrs head;
	uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

// Reads or writes one MSR; false: this host refuses it.
static bool msr_one(const struct vcpu *v, unsigned long request, struct kvm_msr_entry *entry)
{
	union one_msr m = {.room = {0}};
	int rc;

	m.head.nmsrs = 1;
	memcpy(m.head.entries, entry, sizeof(*entry));
	rc = ioctl_call_ptr(v->fd, request, &m);
	memcpy(entry, m.head.entries, sizeof(*entry));
	return rc == 1;
}

int vcpu_state_probe(struct vcpu *v, struct err *e)
{
	union msr_list list = {.head.nmsrs = MSRS_MAX};
	int rc = ioctl_ptr(v->vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, &list.head);

	if (rc < 0)
		return err_sys(e, -rc, "cannot list the MSRs of this host's KVM");
	v->msrs = calloc(1, sizeof(*v->msrs) + list.head.nmsrs * sizeof(v->msrs->entries[0]));
	if (v->msrs == NULL)
		return err_set(e, ENOMEM, "no memory for the MSRs of vCPU %u", v->id);
	for (uint32_t i = 0; i < list.head.nmsrs; i++) {
		struct kvm_msr_entry m = {.index = list.head.indices[i]};

		if (msr_one(v, KVM_GET_MSRS, &m))
			v->msrs->entries[v->msrs->nmsrs++].index = m.index;
	}
	return 0;
}

// The vCPU's sections of a fixed size. Order is that of installing: control registers say what
// later ones may hold, events come last. needs: only with an interrupt controller.
static const struct part {
	enum state_type type;
	const char *name;
	unsigned long get, set;
	uint32_t bytes;
	bool irqchip;
} parts[] = {
	{STATE_XCRS, "XCRS", KVM_GET_XCRS, KVM_SET_XCRS, sizeof(struct kvm_xcrs), false},
	{STATE_SREGS2, "control registers", KVM_GET_SREGS2, KVM_SET_SREGS2,
		sizeof(struct kvm_sregs2), false},
	{STATE_REGS, "registers", KVM_GET_REGS, KVM_SET_REGS, sizeof(struct kvm_regs), false},
	{STATE_LAPIC, "LAPIC", KVM_GET_LAPIC, KVM_SET_LAPIC, sizeof(struct kvm_lapic_state), true},
	{STATE_MP, "run state", KVM_GET_MP_STATE, KVM_SET_MP_STATE, sizeof(struct kvm_mp_state),
		true},
	{STATE_DEBUG, "debug registers", KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS,
		sizeof(struct kvm_debugregs), false},
	{STATE_EVENTS, "events", KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS,
		sizeof(struct kvm_vcpu_events), false},
};
#define NPARTS   (sizeof(parts) / sizeof(parts[0]))
#define PART_MAX 4096u

static int failed(int rc, const struct vcpu *v, const char *verb, const char *what, struct err *e)
{
	return err_sys(e, -rc, "cannot %s the %s of vCPU %u", verb, what, v->id);
}

static int save_xsave(struct vcpu *v, struct state_out *s, struct err *e)
{
	_cleanup_(free_ptr) struct kvm_xsave *x = calloc(1, v->vm->kvm_xsave_bytes);
	int rc = -ENOMEM;

	if (x != NULL)
		rc = v->vm->kvm_xsave_bytes > sizeof(*x) ? ioctl_ptr(v->fd, KVM_GET_XSAVE2, x)
							 : ioctl_ptr(v->fd, KVM_GET_XSAVE, x);
	if (rc < 0)
		return failed(rc, v, "read", "FPU state", e);
	state_put(s, STATE_XSAVE, v->id, x, v->vm->kvm_xsave_bytes);
	return 0;
}

int vcpu_state_save(struct vcpu *v, struct state_out *s, struct err *e)
{
	uint8_t buf[PART_MAX];
	uint32_t khz;
	int rc = save_xsave(v, s, e);

	if (rc < 0)
		return rc;
	// What was set, not what KVM_GET_CPUID2 says: some KVMs add features of their host to that.
	state_put(s, STATE_CPUID, v->id, v->cpuid->head.entries,
		v->cpuid->head.nent * sizeof(v->cpuid->head.entries[0]));
	for (unsigned i = 0; i < NPARTS; i++) {
		if (parts[i].irqchip && !v->vm->kvm_irqchip)
			continue;
		memset(buf, 0, parts[i].bytes);
		rc = ioctl_call_ptr(v->fd, parts[i].get, buf);
		if (rc < 0)
			return failed(rc, v, "read", parts[i].name, e);
		state_put(s, parts[i].type, v->id, buf, parts[i].bytes);
	}
	rc = ioctl_ptr(v->fd, KVM_GET_MSRS, v->msrs);
	if (rc != (int)v->msrs->nmsrs)
		return failed(rc < 0 ? rc : -EIO, v, "read", "MSRs", e);
	state_put(s, STATE_MSRS, v->id, v->msrs->entries,
		v->msrs->nmsrs * sizeof(v->msrs->entries[0]));
	rc = ioctl_val(v->fd, KVM_GET_TSC_KHZ, 0);
	khz = rc < 0 ? 0 : (uint32_t)rc;
	state_put(s, STATE_TSC_KHZ, v->id, &khz, sizeof(khz));
	return 0;
}

// An array section: its entries and how many, or -EPROTO.
static int array(const struct state_in *s, uint32_t type, const struct vcpu *v, size_t one,
	size_t max, const void **entries, struct err *e)
{
	size_t len = 0;

	*entries = state_find(s, type, v->id, &len);
	if (*entries == NULL || len % one != 0 || len / one > max)
		return err_set(e, EPROTO,
			"device state: section %u of vCPU %u is missing or damaged", type, v->id);
	return (int)(len / one);
}

static const struct kvm_cpuid_entry2 *leaf(const union machine_cpuid *c, uint32_t f, uint32_t i)
{
	for (uint32_t k = 0; k < c->head.nent; k++)
		if (c->head.entries[k].function == f && c->head.entries[k].index == i)
			return &c->head.entries[k];
	return NULL;
}

// Every feature that the guest was shown must exist here.
static int check_cpuid(struct vcpu *v, const union machine_cpuid *guest, struct err *e)
{
	static const uint32_t leaves[] = {1, 7, 0x80000001};
	union machine_cpuid host = {.room = {0}};
	int rc = machine_cpuid(v->vm, &host);

	if (rc < 0)
		return failed(rc, v, "compare", "CPU features", e);
	for (unsigned i = 0; i < 3; i++) {
		const struct kvm_cpuid_entry2 *g = leaf(guest, leaves[i], 0);
		const struct kvm_cpuid_entry2 *h = leaf(&host, leaves[i], 0);
		uint32_t b = 0, c, d;

		if (g == NULL)
			continue;
		if (leaves[i] == 7)
			b = g->ebx & ~(h == NULL ? 0 : h->ebx);
		c = g->ecx & ~(h == NULL ? 0 : h->ecx);
		d = g->edx & ~(h == NULL ? 0 : h->edx);
		if (b | c | d)
			return err_set(e, ENOTSUP,
				"this host's CPU lacks features that the guest uses (leaf %#x: ebx "
				"%#x "
				"ecx %#x edx %#x): choose a host with the same CPU model",
				leaves[i], b, c, d);
	}
	return 0;
}

static int get_cpuid(
	struct vcpu *v, const struct state_in *s, union machine_cpuid *c, struct err *e)
{
	const void *p;
	int n = array(s, STATE_CPUID, v, sizeof(c->head.entries[0]), MACHINE_CPUID_MAX, &p, e);

	if (n < 0)
		return n;
	memset(c, 0, sizeof(*c));
	c->head.nent = (uint32_t)n;
	memcpy(c->head.entries, p, (size_t)n * sizeof(c->head.entries[0]));
	return 0;
}

int vcpu_state_check(struct vcpu *v, const struct state_in *s, struct err *e)
{
	union machine_cpuid c;
	uint8_t buf[PART_MAX];
	const void *p;
	size_t len = 0;
	int rc = get_cpuid(v, s, &c, e);

	if (rc == 0)
		rc = check_cpuid(v, &c, e);
	for (unsigned i = 0; rc == 0 && i < NPARTS; i++)
		if (!parts[i].irqchip || v->vm->kvm_irqchip)
			rc = state_get(s, parts[i].type, v->id, buf, parts[i].bytes, e);
	if (rc == 0)
		rc = state_get(s, STATE_TSC_KHZ, v->id, buf, sizeof(uint32_t), e);
	if (rc == 0)
		rc = array(s, STATE_MSRS, v, sizeof(struct kvm_msr_entry), MSRS_MAX, &p, e);
	if (rc < 0)
		return rc;
	p = state_find(s, STATE_XSAVE, v->id, &len);
	if (p == NULL || len < sizeof(struct kvm_xsave) || len > v->vm->kvm_xsave_bytes)
		return err_set(e, EPROTO,
			"device state: FPU state of vCPU %u has %zu bytes, this host takes %zu to "
			"%u",
			v->id, len, sizeof(struct kvm_xsave), v->vm->kvm_xsave_bytes);
	return 0;
}

static int load_xsave(struct vcpu *v, const struct state_in *s, struct err *e)
{
	_cleanup_(free_ptr) struct kvm_xsave *x = calloc(1, v->vm->kvm_xsave_bytes);
	size_t len = 0;
	const void *p = state_find(s, STATE_XSAVE, v->id, &len);
	int rc = -ENOMEM;

	if (x != NULL) {
		memcpy(x, p, len);
		rc = ioctl_ptr(v->fd, KVM_SET_XSAVE, x);
	}
	return rc < 0 ? failed(rc, v, "set", "FPU state", e) : 0;
}

static int load_msrs(struct vcpu *v, const struct state_in *s, struct err *e)
{
	const void *p;
	int n = array(s, STATE_MSRS, v, sizeof(struct kvm_msr_entry), MSRS_MAX, &p, e);

	for (int i = 0; i < n; i++) {
		struct kvm_msr_entry m, now = {0};

		memcpy(&m, (const uint8_t *)p + (size_t)i * sizeof(m), sizeof(m));
		if (msr_one(v, KVM_SET_MSRS, &m))
			continue;
		now.index = m.index; // read-only MSRs: fine if the same here
		if (!msr_one(v, KVM_GET_MSRS, &now) || now.data != m.data)
			return err_set(e, ENOTSUP,
				"this host refuses MSR %#x of vCPU %u: choose a host with the same "
				"CPU "
				"model and kernel",
				m.index, v->id);
	}
	return n < 0 ? n : 0;
}

int vcpu_state_load(struct vcpu *v, const struct state_in *s, struct err *e)
{
	uint8_t buf[PART_MAX];
	uint32_t khz;
	int rc = get_cpuid(v, s, v->cpuid, e);

	if (rc < 0)
		return rc;
	rc = ioctl_ptr(v->fd, KVM_SET_CPUID2, &v->cpuid->head);
	if (rc < 0)
		return failed(rc, v, "set", "CPU features", e);
	rc = state_get(s, STATE_TSC_KHZ, v->id, &khz, sizeof(khz), e);
	if (rc == 0 && khz != 0 && ioctl_val(v->fd, KVM_GET_TSC_KHZ, 0) != (int)khz &&
		ioctl_val(v->fd, KVM_SET_TSC_KHZ, khz) < 0)
		return err_set(e, ENOTSUP,
			"the guest's clock runs at %u kHz, which this host cannot give", khz);
	for (unsigned i = 0; rc == 0 && i < NPARTS; i++) {
		if (parts[i].irqchip && !v->vm->kvm_irqchip)
			continue;
		if (parts[i].type == STATE_SREGS2) // XSAVE needs XCRS
			rc = load_xsave(v, s, e);
		if (parts[i].type == STATE_DEBUG) // MSRs need EFER, and the LAPIC for its timer
			rc = load_msrs(v, s, e);
		if (rc == 0)
			rc = state_get(s, parts[i].type, v->id, buf, parts[i].bytes, e);
		if (rc < 0)
			return rc;
		rc = ioctl_call_ptr(v->fd, parts[i].set, buf);
		if (rc < 0)
			return failed(rc, v, "set", parts[i].name, e);
	}
	return rc;
}

int machine_state_save(struct vm *vm, struct state_out *s, struct err *e)
{
	struct kvm_clock_data clock = {0};
	int rc = ioctl_ptr(vm->vm_fd, KVM_GET_CLOCK, &clock);

	if (rc < 0)
		return err_sys(e, -rc, "cannot read the guest's clock");
	state_put(s, STATE_CLOCK, STATE_VM, &clock.clock, sizeof(clock.clock));
	for (uint32_t i = 0; vm->kvm_irqchip && i < 3; i++) {
		struct kvm_irqchip chip = {.chip_id = i};

		rc = ioctl_ptr(vm->vm_fd, KVM_GET_IRQCHIP, &chip);
		if (rc < 0)
			return err_sys(e, -rc, "cannot read interrupt controller %u", i);
		state_put(s, STATE_IRQCHIP0 + i, STATE_VM, &chip, sizeof(chip));
	}
	return 0;
}

int machine_state_load(struct vm *vm, const struct state_in *s, struct err *e)
{
	struct kvm_clock_data clock = {0};
	struct kvm_irqchip chip[3];
	uint64_t now;
	int rc = state_get(s, STATE_CLOCK, STATE_VM, &now, sizeof(now), e);

	for (uint32_t i = 0; rc == 0 && vm->kvm_irqchip && i < 3; i++) {
		rc = state_get(s, STATE_IRQCHIP0 + i, STATE_VM, &chip[i], sizeof(chip[i]), e);
		if (rc == 0 && chip[i].chip_id != i)
			rc = err_set(
				e, EPROTO, "device state: interrupt controller %u is damaged", i);
	}
	if (rc < 0)
		return rc;
	clock.clock = now;
	rc = ioctl_ptr(vm->vm_fd, KVM_SET_CLOCK, &clock);
	if (rc < 0)
		return err_sys(e, -rc, "cannot set the guest's clock");
	for (uint32_t i = 0; vm->kvm_irqchip && i < 3; i++) {
		rc = ioctl_ptr(vm->vm_fd, KVM_SET_IRQCHIP, &chip[i]);
		if (rc < 0)
			return err_sys(e, -rc, "cannot set interrupt controller %u", i);
	}
	return 0;
}
