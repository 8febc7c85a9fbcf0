/*
 * Why criu refused, for a person who does not know criu: the causes that services meet have a sentence of ours; the last
 * error lines of criu's log follow in any case.
 */
#ifndef VED_CRIU_WORDS_H
#define VED_CRIU_WORDS_H

#include "ved/engine.h"

void criu_explain(
    const char *dir, const char *log_file, const char *message, struct engine_error *error);
/* The part that is only words: from a log's text. */
void criu_explain_text(const char *log, const char *message, struct engine_error *error);

#endif
