#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "depctl/command.h"

static void print_public(const struct session *session, const struct node_keys *keys)
{
	char text[2 * KEY_SIZE + 1];
	json_t *object;

	key_format(text, keys->public_key);
	if (session->form == OUTPUT_TABLE) {
		printf("%s\n", text);
		return;
	}
	object = json_pack("{s:s}", "public_key", text);
	output_object(session->form, object, NULL);
	json_decref(object);
}

int command_key_new(struct session *session, const struct arguments *arguments)
{
	struct node_keys keys;
	int r;

	keys_generate(&keys);
	r = keys_save(&keys, arguments->positional[0]);
	if (r < 0)
		fprintf(stderr, "depctl: create %s: %s\n", arguments->positional[0], strerror(-r));
	else
		print_public(session, &keys);
	sodium_memzero(&keys, sizeof(keys));
	return r < 0 ? 1 : 0;
}

int command_key_show(struct session *session, const struct arguments *arguments)
{
	struct node_keys keys;

	if (keys_load(&keys, arguments->positional[0]) < 0)
		return 1;
	print_public(session, &keys);
	sodium_memzero(&keys, sizeof(keys));
	return 0;
}
