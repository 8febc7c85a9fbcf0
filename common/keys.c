#include "common/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"

int key_parse(uint8_t key[KEY_SIZE], const char *text)
{
	size_t size;
	const char *end;

	if (strlen(text) != 2 * KEY_SIZE ||
	    sodium_hex2bin(key, KEY_SIZE, text, 2 * KEY_SIZE, NULL, &size, &end) != 0 ||
	    size != KEY_SIZE || *end)
		return -EINVAL;
	return 0;
}

void key_format(char text[2 * KEY_SIZE + 1], const uint8_t key[KEY_SIZE])
{
	sodium_bin2hex(text, 2 * KEY_SIZE + 1, key, KEY_SIZE);
}

uint64_t node_id(const uint8_t public_key[KEY_SIZE])
{
	uint8_t hash[32];
	uint64_t id = 0;

	crypto_generichash(hash, sizeof(hash), public_key, KEY_SIZE, NULL, 0);
	for (int i = 7; i >= 0; i--)
		id = id << 8 | hash[i];
	return id;
}

void keys_generate(struct node_keys *keys)
{
	crypto_box_keypair(keys->public_key, keys->secret_key);
}

static int read_key_text(const char *path, mode_t most, char text[2 * KEY_SIZE + 2])
{
	struct stat st;
	ssize_t size;
	int fd = open(path, O_RDONLY | O_CLOEXEC), r = 0;

	if (fd < 0) {
		r = -errno;
		log_error("open key file %s: %s", path, strerror(errno));
		return r;
	}
	if (fstat(fd, &st) < 0 || (st.st_mode & 0667 & ~most)) {
		log_error(
		    "key file %s: mode %04o, may be at most %04o", path, st.st_mode & 07777, most);
		r = -EPERM;
	} else {
		size = read(fd, text, 2 * KEY_SIZE + 1);
		text[size < 0 ? 0 : size] = '\0';
	}
	close(fd);
	return r;
}

static int load(uint8_t key[KEY_SIZE], const char *path, mode_t most)
{
	char text[2 * KEY_SIZE + 2] = "";
	int r = read_key_text(path, most, text);

	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	r = key_parse(key, text);
	sodium_memzero(text, sizeof(text));
	if (r < 0)
		log_error("key file %s: not 64 hex digits and a newline", path);
	return r;
}

static int save(const uint8_t key[KEY_SIZE], const char *path, mode_t mode)
{
	char text[2 * KEY_SIZE + 2];
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode), r = 0;

	if (fd < 0)
		return -errno;
	key_format(text, key);
	text[2 * KEY_SIZE] = '\n';
	if (write(fd, text, 2 * KEY_SIZE + 1) != 2 * KEY_SIZE + 1 || fsync(fd) < 0)
		r = errno ? -errno : -EIO;
	sodium_memzero(text, sizeof(text));
	close(fd);
	if (r < 0)
		unlink(path);
	return r;
}

int keys_load(struct node_keys *keys, const char *path)
{
	int r = load(keys->secret_key, path, 0640);

	if (r == 0)
		crypto_scalarmult_base(keys->public_key, keys->secret_key);
	return r;
}

int keys_save(const struct node_keys *keys, const char *path)
{
	return save(keys->secret_key, path, 0640);
}

int admin_keys_create(struct admin_keys *keys, const char *path)
{
	uint8_t seed[KEY_SIZE];
	int r;

	randombytes_buf(seed, sizeof(seed));
	crypto_sign_seed_keypair(keys->public_key, keys->secret_key, seed);
	r = save(seed, path, 0600);
	sodium_memzero(seed, sizeof(seed));
	return r;
}

int admin_keys_load(struct admin_keys *keys, const char *path)
{
	uint8_t seed[KEY_SIZE];
	int r = load(seed, path, 0600);

	if (r == 0)
		crypto_sign_seed_keypair(keys->public_key, keys->secret_key, seed);
	sodium_memzero(seed, sizeof(seed));
	return r;
}
