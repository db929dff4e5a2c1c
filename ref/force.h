/* Forcing from a file: every activation that has a tensor of its name there goes on with that tensor's
 * values, so that each stage of the run starts from the same input as another program's. A file that
 * this program or golden/ traced is one, in any float type.
 *
 *     Force force = {.file = safetensors_open(path, &err)};
 *     Forcing forcing = {force_from_file, &force};
 *     ctx.forcing = &forcing; */
#ifndef LLMDIFF_FORCE_H
#define LLMDIFF_FORCE_H

#include "tensor/tensor.h"
#include "weights/safetensors.h"

typedef struct Force {
    const Safetensors *file;
    size_t forced; /* how many activations were */
} Force;

/* Forcing.force, self a Force. Fails if the tensor has another shape or is no float tensor, or if a
 * value of it is not finite as a real. */
bool force_from_file(void *self, const char *name, real *data, int ndim, const int64_t *dim,
                     Error *err);

#endif
