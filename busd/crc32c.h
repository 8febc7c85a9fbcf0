/* CRC-32C (Castagnoli), as in RFC 3720 appendix B.4.  Start with 0 and pass the result on. */
#ifndef BUSD_CRC32C_H
#define BUSD_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *data, size_t size);

#endif
