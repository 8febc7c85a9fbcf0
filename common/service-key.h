/*
 * A service's key: 32 random bytes that its images are encrypted with, kept in metad as one seal (crypto_box_seal) for each
 * node that may run it (proto: migrated.key_fact).  migrated makes and passes it on, ckptd needs it to store images.
 */
#ifndef COMMON_SERVICE_KEY_H
#define COMMON_SERVICE_KEY_H

#include "common/daemon.h"
#include "proto/migrated.h"

/* 0; -ENOKEY: there is no seal for this node; -EKEYREJECTED: there is, and it does not open, or holds another key. */
int service_key_open(
    const struct msg_migrated_key_fact *fact, const struct daemon *daemon, uint8_t key[KEY_SIZE]);
/* Seals it for a node, with the key that peer has.  0, or -EINVAL for a public key that is of no use. */
int service_key_seal(
    struct msg_migrated_sealed_key *sealed, const struct peer *peer, const uint8_t key[KEY_SIZE]);
/* What the fact says of the key, so that a wrong one is told; says nothing of the key to who has it not. */
void service_key_set_check(struct msg_migrated_key_fact *fact, const uint8_t key[KEY_SIZE]);
/* True also when the fact says nothing. */
bool service_key_fits(const struct msg_migrated_key_fact *fact, const uint8_t key[KEY_SIZE]);

#endif
