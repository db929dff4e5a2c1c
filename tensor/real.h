/* The one switch: `make` computes in float, `make REAL=double` in double, from the same source. */
#ifndef LLMDIFF_REAL_H
#define LLMDIFF_REAL_H

#include <float.h>

#ifdef LLMDIFF_DOUBLE
typedef double real;
#    define REAL_NAME "float64"
#    define REAL_EPSILON DBL_EPSILON
#else
typedef float real;
#    define REAL_NAME "float32"
#    define REAL_EPSILON FLT_EPSILON
#endif

#endif
