/* Mutations of packed files that know their structure: header, JSON tokens, buffer; most get a right hash again. */
#ifndef FUZZ_MUTATE_H
#define FUZZ_MUTATE_H

#include <stddef.h>
#include <stdint.h>

/* The next number of a sequence, below `most`; any where that is 0. */
unsigned draw(unsigned *state, unsigned most);

/* Change `size` bytes of at most `most`.  -> their new number */
size_t mutate(uint8_t *data, size_t size, size_t most, unsigned seed);

/* Put the hash of the content right, where the header can be read at all. */
void seal(uint8_t *data, size_t size);

#endif
