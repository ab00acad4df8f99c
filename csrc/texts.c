/* Names of backends and of statuses. */
#include "refvit.h"

const char *refvit_backend_name(int backend)
{
    switch (backend) {
    case REFVIT_PORTABLE: return "portable";
    case REFVIT_AVX2: return "avx2";
    case REFVIT_AVXVNNI: return "avxvnni";
    case REFVIT_AVX512VNNI: return "avx512vnni";
    case REFVIT_AVX512: return "avx512";
    case REFVIT_NEON: return "neon";
    case REFVIT_NEONDOT: return "neondot";
    case REFVIT_RVZBB: return "rvzbb";
    default: return "unknown";
    }
}

const char *refvit_status_text(int status)
{
    switch (status) {
    case REFVIT_OK: return "ok";
    case REFVIT_BAD_SIZE: return "a size that does not fit";
    case REFVIT_BAD_BACKEND: return "a backend that this machine cannot run";
    case REFVIT_BAD_PLANES: return "bit-planes that are both set, or padding that is not zero";
    case REFVIT_NAN: return "a NaN";
    case REFVIT_BAD_FILE: return "not a packed file, or a damaged one";
    case REFVIT_UNSUPPORTED: return "not supported here";
    case REFVIT_UNREADABLE: return "the file cannot be read";
    case REFVIT_NO_MEMORY: return "not enough memory";
    default: return "unknown";
    }
}
