// Goal: the variant that was asked for is the one that runs, and every variant is executed by these tests.
// Method: FOVEA_ISA in fresh processes; the operating system's own list of CPU features; known values of
// VDPBF16PS.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include "base/error.h"
#include "kernels/variants_testing.h"

namespace fovea {
namespace {

// Exits with 0 when a process that starts with FOVEA_ISA=wanted gets that variant.
[[noreturn]] void exit_with_choice(const char* wanted) {
  setenv("FOVEA_ISA", wanted, 1);
  try {
    std::exit(std::string_view(kernels().name) == wanted ? 0 : 1);
  } catch (const Error& error) {
    std::fputs(error.what(), stderr);
    std::exit(error.kind() == ErrorKind::unsupported ? 2 : 3);
  }
}

class Dispatch : public testing::Test {
 protected:
  // A fresh process each: kernels() chooses once.
  void SetUp() override { testing::FLAGS_gtest_death_test_style = "threadsafe"; }
};

TEST_F(Dispatch, ForcedVariantIsTheActiveOne) {
  for (const Kernels* variant : available_kernels()) {
    EXPECT_EXIT(exit_with_choice(variant->name), testing::ExitedWithCode(0), "") << variant->name;
    EXPECT_EQ(&kernels_named(variant->name), variant);
  }
}

TEST_F(Dispatch, UnknownVariantIsRefusedWithTheNamesThatWork) {
  EXPECT_EXIT(exit_with_choice("avx9000"), testing::ExitedWithCode(2), "avx9000.*\n.*scalar");
  EXPECT_THROW(kernels_named("avx9000"), Error);
}

TEST_F(Dispatch, TheBestVariantIsTheDefault) {
  EXPECT_EXIT(
      {
        unsetenv("FOVEA_ISA");
        std::exit(&kernels() == available_kernels().back() ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

// The words of the first "flags" line of /proc/cpuinfo.
std::vector<std::string> cpu_flags() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("flags")) continue;
    std::istringstream words(line);
    return {std::istream_iterator<std::string>(words), {}};
  }
  return {};
}

TEST(Variants, EveryOneThatThisCpuHasIsExecuted) {
  std::vector<std::string> executed;
  for (const Variant& variant : all_variants()) {
    const float x = 3.f, w = 5.f;
    float y = 0.f;
    variant.kernels->matmul_nt_f32(&x, 1, &w, 1, &y, 1, 1, 1, 1);
    EXPECT_EQ(y, 15.f) << variant.kernels->name;
    executed.emplace_back(variant.kernels->name);
  }
  std::string names;
  for (const std::string& name : executed) names += " " + name;
  std::printf("  executed here:%s\n", names.c_str());

  const std::vector<std::string> flags = cpu_flags();
  const auto contains = [](const auto& list, const char* wanted) {
    return std::find(list.begin(), list.end(), wanted) != list.end();
  };
  const auto has_all = [&](std::initializer_list<const char*> wanted) {
    return std::all_of(wanted.begin(), wanted.end(), [&](const char* flag) { return contains(flags, flag); });
  };
  if (flags.empty()) GTEST_SKIP() << "no CPU flags to compare with";
  const bool avx2 = has_all({"avx2", "fma", "f16c"});
  const bool avx512 = avx2 && has_all({"avx512f", "avx512bw", "avx512dq", "avx512vl"});
  EXPECT_TRUE(contains(executed, "scalar"));
  EXPECT_EQ(contains(executed, "avx2"), avx2);
  EXPECT_EQ(contains(executed, "avx512_emulated"), avx2);
  EXPECT_EQ(contains(executed, "avx512_bf16_emulated"), avx2);
  EXPECT_EQ(contains(executed, "avx512"), avx512);
  const bool vnni = avx512 && has_all({"avx512_vnni"});
  EXPECT_EQ(contains(executed, "avx512_vnni"), vnni);
  const bool bf16 = vnni && has_all({"avx512_bf16"});
  EXPECT_EQ(contains(executed, "avx512_bf16"), bf16);
  EXPECT_EQ(contains(executed, "amx_emulated"), avx2);
  // The kernel may keep tiles from this process, but there must be some to have them.
  EXPECT_TRUE(!contains(executed, "amx") || (bf16 && has_all({"amx_tile", "amx_bf16", "amx_int8"})));
}

TEST(Variants, OnlyBf16MachinesMultiplyBf16) {
  for (const Variant& variant : all_variants()) {
    const bool named = std::string_view(variant.kernels->name).starts_with("avx512_bf16") || variant.tiles();
    EXPECT_EQ(variant.kernels->matmul_nt_bf16_bf16 != nullptr, named) << variant.kernels->name;
  }
}

TEST(Avx512Emulation, DotProductOfPairsFollowsTheManual) {
#ifdef __x86_64__
  if (!__builtin_cpu_supports("avx2")) GTEST_SKIP() << "the emulation stands on AVX2";
  float acc[16] = {}, out[16];
  uint16_t a[32] = {}, b[32] = {};
  const auto set = [&](int lane, float start, float a_low, float a_high, float b_low, float b_high) {
    acc[lane] = start;
    a[2 * lane] = bf16_from_f32(a_low), a[2 * lane + 1] = bf16_from_f32(a_high);
    b[2 * lane] = bf16_from_f32(b_low), b[2 * lane + 1] = bf16_from_f32(b_high);
  };
  set(0, 100.f, 2.f, 3.f, 5.f, 7.f);           // 100 + 21 + 10
  set(1, 1.f, 0x1p-30f, -1.f, 1.f, 1.f);       // the upper product first: 1 - 1 + 2^-30
  set(2, 1.f, -1.f, 0x1p-30f, 1.f, 1.f);       // 1 + 2^-30 rounds to 1
  set(3, 0.f, 0x1p-130f, 0.f, 0x1p100f, 0.f);  // a denormal input is zero
  set(4, 0.f, 0x1p-80f, 0.f, 0x1p-60f, 0.f);   // a denormal result is zero
  set(5, 0x1p-130f, 0.f, 0.f, 0.f, 0.f);       // and so is a denormal addend
  emulated_dot_pairs(acc, a, b, out);
  const float wanted[16] = {131.f, 0x1p-30f};
  for (int lane = 0; lane < 16; ++lane) EXPECT_EQ(out[lane], wanted[lane]) << lane;
#else
  GTEST_SKIP() << "not an x86-64 machine";
#endif
}

}  // namespace
}  // namespace fovea
