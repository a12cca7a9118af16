// SPDX-License-Identifier: BSD-3-Clause
// The examples of PROTOCOL.md are what the program speaks: vectors FILE decodes each block marked
// "vector NAME" with the decoder of its kind and encodes it again. Run by the lint suite.

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent_proto.h"
#include "codec.h"
#include "conn.h"
#include "crc.h"
#include "frame.h"
#include "link_rdma_hello.h"
#include "listen.h"
#include "packet.h"
#include "seal.h"

#define VECTOR_BYTES 65536u

// Same bytes after decoding and encoding? Each returns 0, or -errno with e set.
static int same(const uint8_t *a, const uint8_t *b, size_t len, struct err *e)
{
	for (size_t i = 0; i < len; i++)
		if (a[i] != b[i])
			return err_set(e, EBADMSG, "byte %zu is 0x%02x, the program writes 0x%02x",
				i, a[i], b[i]);
	return 0;
}

static int try_preamble(const uint8_t *in, size_t len, struct err *e)
{
	uint8_t out[PREAMBLE_BYTES];
	struct preamble p;

	if (len != sizeof(out))
		return err_set(e, EBADMSG, "%zu bytes, not %zu", len, sizeof(out));
	if (preamble_decode(&p, in, e) < 0)
		return -e->errnum;
	preamble_encode(&p, out);
	return same(in, out, len, e);
}

static int try_message(const uint8_t *in, size_t len, struct err *e)
{
	enum conn_kind kind;
	int64_t got = conn_parse(in, len, &kind, e);
	json_t *msg;

	if (got < 0)
		return (int)got;
	if ((size_t)got != len || kind != CONN_JSON)
		return err_set(e, EBADMSG, "is not one whole JSON message");
	msg = conn_parse_json(in + 8, len - 8, e);
	if (msg == NULL)
		return -e->errnum;
	json_decref(msg);
	return 0;
}

// A page of one letter, by the frame's codec. What the library writes may differ by its version.
static int try_payload(const struct frame *f, const uint8_t *in, struct err *e)
{
	const struct codec_ops *row = codec_by_id(f->codec);
	uint8_t page[PAGE_BYTES];
	struct codec *c;
	int rc;

	if (crc32c(0, in, f->payload_bytes) != f->payload_crc)
		return err_set(e, EBADMSG, "the checksum of its payload does not match");
	if (row == NULL || row->decode == NULL || row->open(&c, row->level_default, -1, e) < 0)
		return err_set(e, EBADMSG, "codec %d does not decode", f->codec);
	rc = row->decode(c, in, f->payload_bytes, page, sizeof(page));
	row->close(c);
	for (size_t i = 0; rc == 0 && i < sizeof(page); i++)
		if (page[i] != 'G')
			rc = -EBADMSG;
	return rc < 0 ? err_set(e, EBADMSG, "its payload is not 4096 times G") : 0;
}

static int try_frame(const uint8_t *in, size_t len, struct err *e)
{
	uint8_t out[FRAME_HDR_BYTES];
	struct frame f;
	int bad;

	if (len < sizeof(out))
		return err_set(e, EBADMSG, "%zu bytes, not %zu", len, sizeof(out));
	bad = frame_decode(&f, in);
	if (bad < 0)
		return err_set(e, EBADMSG, "%s", frame_bad_text(bad));
	if (len != sizeof(out) && len != sizeof(out) + f.payload_bytes)
		return err_set(e, EBADMSG, "%zu bytes, not a header, or that and its payload", len);
	if (len > sizeof(out) && try_payload(&f, in + sizeof(out), e) < 0)
		return -e->errnum;
	frame_encode(&f, out);
	return same(in, out, sizeof(out), e);
}

static int try_agent(const uint8_t *in, size_t len, struct err *e)
{
	static uint8_t out[AGENT_MSG_BYTES];
	static struct agent_msg m;

	if (agent_decode(&m, in, len, e) < 0)
		return -e->errnum;
	if (agent_encode(&m, out) != len)
		return err_set(e, EBADMSG, "the program writes another length");
	return same(in, out, len, e);
}

static uint64_t token_of(const uint8_t *in, size_t len)
{
	uint64_t token = 0;

	for (unsigned i = 0; i < 8 && len >= PACKET_HDR_BYTES; i++)
		token |= (uint64_t)in[8 + i] << 8 * i;
	return token;
}

// Whatever type it has: it is read, and its header written again. Returns the header's bytes.
static size_t rewrite(const struct packet *header, const uint8_t *in, uint8_t out[PACKET_ACK_MOST])
{
	struct packet p = *header;
	struct packet_data d;
	struct packet_ping g;
	struct packet_bye b;
	struct packet_ack a;
	size_t hdr = 0;

	if (p.type == PACKET_DATA && packet_get_data(&d, &p, in) == 0)
		hdr = packet_put_data(out, &p, &d);
	if (p.type == PACKET_PING && packet_get_ping(&g, &p, in) == 0)
		hdr = packet_put_ping(out, &p, &g);
	if (p.type == PACKET_ACK && packet_get_ack(&a, &p, in) == 0)
		hdr = packet_put_ack(out, &p, &a);
	if (p.type == PACKET_BYE && packet_get_bye(&b, &p, in) == 0)
		hdr = packet_put_bye(out, &p, &b);
	return hdr;
}

static int try_packet(const uint8_t *in, size_t len, struct err *e)
{
	static uint8_t out[PACKET_ACK_MOST];
	struct packet p;
	struct iovec part;
	size_t hdr;

	if (packet_open(&p, token_of(in, len), in, len) < 0 || p.bytes != len)
		return err_set(e, EBADMSG, "is no whole datagram");
	hdr = rewrite(&p, in, out);
	if (hdr == 0)
		return err_set(e, EBADMSG, "its fields break a rule");
	part = (struct iovec){(void *)(in + hdr), len - hdr};
	packet_seal(out, hdr, &part, p.type == PACKET_DATA && len > hdr); // no padding
	return same(in, out, hdr, e);
}

static int try_rdma(const uint8_t *in, size_t len, struct err *e)
{
	uint8_t out[RDMA_HELLO_BYTES];
	struct rdma_hello_accept accept;
	struct rdma_hello_ask ask;

	if (rdma_hello_get_ask(&ask, in, len) == 0)
		rdma_hello_put_ask(out, &ask);
	else if (rdma_hello_get_accept(&accept, in, len) == 0)
		rdma_hello_put_accept(out, &accept);
	else
		return err_set(e, EBADMSG, "is no private data of a connection");
	return len == sizeof(out) ? same(in, out, len, e)
				  : err_set(e, EBADMSG, "%zu bytes, not %zu", len, sizeof(out));
}

static struct seal *sample_seal(void)
{
	struct seal_secret secret;
	struct seal *s;

	for (unsigned i = 0; i < sizeof(secret.key); i++)
		secret.key[i] = (uint8_t)i;
	for (unsigned i = 0; i < sizeof(secret.iv); i++)
		secret.iv[i] = (uint8_t)(0x20 + i);
	return seal_new(&s, seal_best("aes-256-gcm"), &secret, -1, NULL) == 0 ? s : NULL;
}

static struct seal_text text_of(uint64_t number, const struct iovec *in, uint8_t *out)
{
	return (struct seal_text){.number = number,
		.aad = out,
		.aad_bytes = PACKET_AAD_BYTES,
		.nseg = 1,
		.seg = in,
		.out = out + PACKET_HDR_BYTES,
		.tag = out + PACKET_TAG_AT};
}

// Opened, read, its header written again, and sealed again.
static int try_sealed(const uint8_t *in, size_t len, struct err *e)
{
	static uint8_t open[VECTOR_BYTES], again[VECTOR_BYTES];
	struct seal *to_open = sample_seal(), *to_seal = sample_seal();
	struct iovec from = {(uint8_t *)in + PACKET_HDR_BYTES, len - PACKET_HDR_BYTES};
	struct iovec back = {again + PACKET_HDR_BYTES, len - PACKET_HDR_BYTES};
	struct seal_text t;
	struct packet p;
	size_t covered;
	int rc = 0;

	if (packet_read(&p, token_of(in, len), in, len, &covered) < 0 || covered != len)
		rc = err_set(e, EBADMSG, "is no whole datagram");
	memcpy(open, in, rc == 0 ? PACKET_HDR_BYTES : 0);
	t = text_of(p.number, &from, open);
	if (rc == 0 && seal_open(to_open, &t, 1) != 1)
		rc = err_set(e, EBADMSG, "does not open");
	memcpy(again, open, len);
	if (rc == 0 && rewrite(&p, open, again) == 0)
		rc = err_set(e, EBADMSG, "its fields break a rule");
	t = text_of(p.number, &back, again);
	if (rc == 0 && seal_seal(to_seal, &t, 1) != 1)
		rc = err_set(e, EBADMSG, "can't be sealed again");
	seal_free(to_open);
	seal_free(to_seal);
	return rc == 0 ? same(in, again, len, e) : rc;
}

static const struct {
	const char *name; // first word of a vector's name
	int (*attempt)(const uint8_t *in, size_t len, struct err *e);
} kinds[] = {
	{"preamble", try_preamble},
	{"message", try_message},
	{"frame", try_frame},
	{"agent", try_agent},
	{"packet", try_packet},
	{"rdma", try_rdma},
	{"sealed", try_sealed},
};

static int try_vector(const char *name, const uint8_t *in, size_t len)
{
	struct err e = {0};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strncmp(name, kinds[i].name, strlen(kinds[i].name)) != 0)
			continue;
		if (kinds[i].attempt(in, len, &e) == 0)
			return 0;
		printf("vector %s: %s\n", name, e.text);
		return 1;
	}
	printf("vector %s: its name begins with no known kind\n", name);
	return 1;
}

int main(int argc, char **argv)
{
	FILE *doc = argc == 2 ? fopen(argv[1], "r") : NULL;
	char line[512], name[64] = "";
	static uint8_t bytes[VECTOR_BYTES];
	size_t len = 0;
	unsigned seen = 0;
	int bad = 0;

	if (doc == NULL) {
		printf("cannot read the document\n");
		return 1;
	}
	while (fgets(line, sizeof(line), doc) != NULL) {
		if (name[0] == 0) {
			len = 0;
			sscanf(line, "```vector %63[^\n]", name);
		} else if (strncmp(line, "```", 3) == 0) {
			bad += try_vector(name, bytes, len);
			seen++;
			name[0] = 0;
		} else {
			const char *at = line;
			unsigned v;

			while (len < sizeof(bytes) && sscanf(at, "%2x", &v) == 1 && at[1] > ' ') {
				bytes[len++] = (uint8_t)v;
				at += 2;
			}
		}
	}
	fclose(doc);
	printf("%u vectors, %d wrong\n", seen, bad);
	return bad != 0 || seen == 0;
}
