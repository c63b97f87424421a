#include "report/report.h"

#include <gtest/gtest.h>
TEST(Report, Placeholder) {}
