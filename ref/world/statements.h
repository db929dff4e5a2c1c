/* What a prompt says of a picture, statement by statement, and whether a scene bears it out. See world.h. */
#ifndef LLMDIFF_WORLD_STATEMENTS_H
#define LLMDIFF_WORLD_STATEMENTS_H

#include "ref/world/world.h"

#define EXPECT_OBJECTS 4
#define EXPECT_RELATIONS 6
#define EXPECT_ABSENT 4
#define STATEMENTS_MOST (4 + 4 * EXPECT_OBJECTS + EXPECT_RELATIONS + EXPECT_ABSENT)

/* In the order of a report's rows. */
enum {
    SAYS_COUNT,
    SAYS_BACKGROUND,
    SAYS_SHAPE,
    SAYS_COLOR,
    SAYS_SIZE,
    SAYS_OBJECT,   /* all that is said of one object, by one and the same */
    SAYS_OBJECTS,  /* that of every object, where there are several */
    SAYS_RELATION, /* both objects are there as stated, and stand so */
    SAYS_ABSENT,   /* no object is so, or may be */
    SAYS_SCENE,    /* all of these */
    STATEMENT_KINDS
};
extern const char *const statement_name[STATEMENT_KINDS];

/* What is OPEN is not stated. */
typedef struct Expect {
    int count, background;
    int objects, relations, absents;
    WorldObject object[EXPECT_OBJECTS]; /* attributes alone */
    struct {
        int first, relation, second;
    } relation[EXPECT_RELATIONS];
    WorldObject absent[EXPECT_ABSENT];
} Expect;

typedef struct Statement {
    int kind;
    bool holds;
} Statement;

/* The prompt's statements, in an order of their own that the scene does not change. */
typedef struct Judgement {
    int count;
    Statement statement[STATEMENTS_MOST];
} Judgement;

/* Objects are matched so that most statements hold. Of a scene without objects none does: it is what a
 * picture of nothing known reads as. */
void expect_judge(const Expect *expect, const WorldScene *scene, Judgement *judgement);

/* Does the first stand so to the second? One axis has to dominate. */
bool world_stands(const WorldObject *first, int relation, const WorldObject *second);

#endif
