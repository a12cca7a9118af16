// SPDX-License-Identifier: BSD-3-Clause
// Runs a seccomp filter. The programs come from another process by way of the kernel, which checked
// them; they are checked here all the same: each access is bounded, jumps only go forward.

#include "sysfilter.h"

#include <stdint.h>
#include <string.h>

struct machine {
	uint32_t a, x, mem[BPF_MEMWORDS];
};

static bool load(struct machine *m, const struct sock_filter *i, const struct seccomp_data *call)
{
	uint32_t *to = BPF_CLASS(i->code) == BPF_LD ? &m->a : &m->x;

	switch (BPF_MODE(i->code)) {
	case BPF_ABS: /* into the call, in words */
		if (to != &m->a || i->k % 4 != 0 || i->k > sizeof(*call) - 4)
			return false;
		memcpy(to, (const uint8_t *)call + i->k, 4);
		return true;
	case BPF_LEN:
		*to = sizeof(*call);
		return true;
	case BPF_IMM:
		*to = i->k;
		return true;
	case BPF_MEM:
		if (i->k >= BPF_MEMWORDS)
			return false;
		*to = m->mem[i->k];
		return true;
	}
	return false;
}

static bool compute(struct machine *m, const struct sock_filter *i)
{
	uint32_t v = BPF_SRC(i->code) == BPF_X ? m->x : i->k;

	switch (BPF_OP(i->code)) {
	case BPF_ADD:
		m->a += v;
		return true;
	case BPF_SUB:
		m->a -= v;
		return true;
	case BPF_MUL:
		m->a *= v;
		return true;
	case BPF_DIV:
		m->a = v != 0 ? m->a / v : 0;
		return v != 0;
	case BPF_OR:
		m->a |= v;
		return true;
	case BPF_AND:
		m->a &= v;
		return true;
	case BPF_XOR:
		m->a ^= v;
		return true;
	case BPF_LSH:
		m->a = v < 32 ? m->a << v : 0;
		return true;
	case BPF_RSH:
		m->a = v < 32 ? m->a >> v : 0;
		return true;
	case BPF_NEG:
		m->a = -m->a;
		return true;
	}
	return false;
}

/* How many instructions to leave out. */
static uint32_t jump(const struct machine *m, const struct sock_filter *i)
{
	uint32_t v = BPF_SRC(i->code) == BPF_X ? m->x : i->k;

	switch (BPF_OP(i->code)) {
	case BPF_JA:
		return i->k;
	case BPF_JEQ:
		return m->a == v ? i->jt : i->jf;
	case BPF_JGT:
		return m->a > v ? i->jt : i->jf;
	case BPF_JGE:
		return m->a >= v ? i->jt : i->jf;
	case BPF_JSET:
		return (m->a & v) != 0 ? i->jt : i->jf;
	}
	return UINT32_MAX; /* past the end */
}

unsigned sysfilter_run(const struct sock_filter *code, unsigned n, const struct seccomp_data *call)
{
	struct machine m = {0};

	for (uint64_t at = 0; at < n; at++) {
		const struct sock_filter *i = &code[at];
		bool good = true;

		switch (BPF_CLASS(i->code)) {
		case BPF_LD:
		case BPF_LDX:
			good = load(&m, i, call);
			break;
		case BPF_ST:
		case BPF_STX:
			good = i->k < BPF_MEMWORDS;
			if (good)
				m.mem[i->k] = BPF_CLASS(i->code) == BPF_ST ? m.a : m.x;
			break;
		case BPF_ALU:
			good = compute(&m, i);
			break;
		case BPF_JMP:
			at += jump(&m, i);
			break;
		case BPF_RET:
			return BPF_RVAL(i->code) == BPF_A ? m.a : i->k;
		case BPF_MISC:
			if (BPF_MISCOP(i->code) == BPF_TAX)
				m.x = m.a;
			else
				m.a = m.x;
			break;
		}
		if (!good)
			break;
	}
	return SECCOMP_RET_KILL_PROCESS;
}

bool sysfilter_passes(unsigned action)
{
	action &= SECCOMP_RET_ACTION_FULL;
	return action == SECCOMP_RET_ALLOW || action == SECCOMP_RET_LOG;
}
