/* train.jsonl: one JSON object in each line, written as the run goes on.
 *
 *     {"step":12,"loss":0.31,"smoothed_loss":0.35,"learning_rate":0.0001,"grad_norm":0.8,"epoch":0,...}
 *     {"event":"checkpoint","step":500,"text":"..."}
 *
 *     TrainLog *log = log_open("out/train.jsonl", 500, &err);      // what came after step 500 is dropped
 *     log_step(log, &(LoggedStep){.step = 501, ...}, &err);
 *     log_event(log, "checkpoint", 501, "out/checkpoint-501", &err);
 *     log_close(log); */
#ifndef LLMDIFF_TRAIN_LOG_H
#define LLMDIFF_TRAIN_LOG_H

#include "tensor/error.h"

#include <stdint.h>

typedef struct TrainLog TrainLog;

typedef struct LoggedStep {
    int64_t step; /* counted from 1 */
    double loss, smoothed_loss, learning_rate, grad_norm;
    int64_t epoch, samples;
    double seconds; /* of training, over all restarts */
    double samples_per_second;
} LoggedStep;

/* A log that is there already keeps its lines up to that step; what follows, and a line that a killed run
 * left torn, are dropped. NULL with a message. */
TrainLog *log_open(const char *path, int64_t step, Error *err);
/* Each 0, or -1 with a message: the line is with the system then. */
int log_step(TrainLog *log, const LoggedStep *s, Error *err);
int log_event(TrainLog *log, const char *event, int64_t step, const char *text, Error *err);
/* To the disk: what a checkpoint follows on. */
int log_sync(TrainLog *log, Error *err);
void log_close(TrainLog *log); /* NULL is fine */

#endif
