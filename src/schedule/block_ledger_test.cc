#include "schedule/block_ledger.h"

#include <gtest/gtest.h>

#include <numeric>

namespace fovea {
namespace {

using Tokens = std::vector<uint64_t>;
constexpr ChainEnd kRoot{.root = 7};

Tokens counting(uint64_t from, size_t count) {
  Tokens tokens(count);
  std::iota(tokens.begin(), tokens.end(), from);
  return tokens;
}
std::span<const uint64_t> part(const Tokens& tokens, size_t first, size_t count) {
  return std::span(tokens).subspan(first, count);
}
uint64_t always_equal(const ChainEnd&, std::span<const uint64_t>) { return 1; }

// A chain of full blocks of four tokens, published, with one reference to each.
std::vector<BlockId> chain(BlockLedger& ledger, const Tokens& tokens, ChainEnd end = kRoot) {
  std::vector<BlockId> table;
  for (size_t i = 0; i + 4 <= tokens.size(); i += 4) {
    table.push_back(*ledger.allocate());
    EXPECT_EQ(ledger.publish(table.back(), end, part(tokens, i, 4)), table.back());
    end.block = table.back();
  }
  return table;
}

TEST(BlockLedger, HandsOutEachBlockOnceAndTakesItBack) {
  BlockLedger ledger(2, 4);
  const BlockId a = *ledger.allocate(), b = *ledger.allocate();
  EXPECT_NE(a, b);
  EXPECT_FALSE(ledger.allocate());
  EXPECT_EQ(ledger.used(), 2);
  ledger.add_reference(a);
  EXPECT_TRUE(ledger.is_shared(a));
  ledger.drop({{a}});
  EXPECT_FALSE(ledger.is_shared(a));
  ledger.check(2);
  ledger.drop({{a, b}});
  EXPECT_EQ(ledger.free(), 2);
  ledger.check(0);
}

TEST(BlockLedger, AnEmptyOneHasNothing) {
  BlockLedger ledger(0, 4);
  EXPECT_FALSE(ledger.allocate());
  EXPECT_TRUE(ledger.find(kRoot, counting(0, 9)).blocks.empty());
  ledger.check(0);
}

TEST(BlockLedger, FindsTheLongestChain) {
  BlockLedger ledger(8, 4);
  const Tokens tokens = counting(0, 12);
  const auto table = chain(ledger, tokens);
  EXPECT_EQ(ledger.find(kRoot, tokens).blocks, table);
  EXPECT_EQ(ledger.find(kRoot, tokens).tokens, 12);
  Tokens other = tokens;
  other[9] = 100;  // in the third block, behind one token that is equal
  const Prefix prefix = ledger.find(kRoot, other);
  EXPECT_EQ(prefix.tokens, 9);
  EXPECT_EQ(prefix.blocks, table);
  EXPECT_TRUE(prefix.needs_copy);
  EXPECT_EQ(ledger.find({kRoot.root, table[0]}, part(tokens, 4, 8)).blocks.size(), 2u);
}

TEST(BlockLedger, ComparesInFullWhereHashesAreEqual) {
  BlockLedger ledger(8, 4, always_equal);
  const Tokens same = counting(1, 4), other = counting(50, 4);
  const auto first = chain(ledger, same);
  const auto other_root = chain(ledger, same, {.root = 8});
  const auto others = chain(ledger, other);
  const auto behind = chain(ledger, same, {kRoot.root, others[0]});  // equal tokens, another predecessor
  ledger.check(4);
  EXPECT_EQ(ledger.find(kRoot, same).blocks, first);
  EXPECT_EQ(ledger.find({.root = 8}, same).blocks, other_root);
  EXPECT_EQ(ledger.find(kRoot, other).blocks, others);
  EXPECT_TRUE(ledger.find({.root = 8}, other).blocks.empty());
  EXPECT_TRUE(ledger.find({.root = 9}, same).blocks.empty());
  EXPECT_EQ(ledger.find({kRoot.root, others[0]}, same).blocks, behind);
  EXPECT_TRUE(ledger.find({kRoot.root, first[0]}, same).blocks.empty());
  ledger.drop(behind);  // leaves the middle of the bucket's list sound
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(ledger.allocate());
  ledger.check(8);
  EXPECT_EQ(ledger.find(kRoot, other).blocks, others);
}

TEST(BlockLedger, EvictsLeastRecentlyUsedAndOfAChainTheEnd) {
  BlockLedger ledger(4, 4);
  const Tokens old_tokens = counting(0, 8), new_tokens = counting(100, 8);
  const auto old_chain = chain(ledger, old_tokens), new_chain = chain(ledger, new_tokens);
  ledger.drop(old_chain);
  ledger.drop(new_chain);
  EXPECT_EQ(ledger.cached(), 4);
  ledger.share(ledger.find(kRoot, old_tokens));  // used again: now the other is the older one
  ledger.drop(old_chain);
  EXPECT_EQ(ledger.allocate(), new_chain[1]);
  ledger.check(1);
  EXPECT_EQ(ledger.find(kRoot, new_tokens).tokens, 4);
  EXPECT_EQ(ledger.allocate(), new_chain[0]);
  EXPECT_EQ(ledger.allocate(), old_chain[1]);
  EXPECT_EQ(ledger.allocate(), old_chain[0]);
  EXPECT_FALSE(ledger.allocate());
  EXPECT_EQ(ledger.counters().evictions, 4);
  EXPECT_EQ(ledger.counters().hits, 2);
  ledger.check(4);
}

TEST(BlockLedger, NeverEvictsWhatSomebodyCounts) {
  BlockLedger ledger(3, 4);
  const Tokens tokens = counting(0, 12);
  const auto table = chain(ledger, tokens);
  ledger.drop(std::span(table).subspan(1));
  EXPECT_EQ(ledger.allocate(), table[2]);
  EXPECT_EQ(ledger.allocate(), table[1]);
  EXPECT_FALSE(ledger.allocate());
  EXPECT_EQ(ledger.find(kRoot, tokens).tokens, 4);
}

TEST(BlockLedger, APendingBlockMakesOthersWaitUntilItIsCompleteOrAbandoned) {
  BlockLedger ledger(4, 4);
  const Tokens tokens = counting(0, 8);
  const BlockId a = *ledger.allocate(), b = *ledger.allocate(), c = *ledger.allocate();
  EXPECT_TRUE(ledger.reserve(a, kRoot, part(tokens, 0, 4)));
  EXPECT_TRUE(ledger.reserve(b, {kRoot.root, a}, part(tokens, 4, 4)));
  EXPECT_TRUE(ledger.find(kRoot, tokens).pending);
  EXPECT_FALSE(ledger.reserve(c, kRoot, part(tokens, 0, 4)));  // once is enough
  EXPECT_EQ(ledger.publish(c, kRoot, part(tokens, 0, 4)), kNoBlock);
  ledger.check(3);
  EXPECT_EQ(ledger.publish(a, kRoot, part(tokens, 0, 4)), a);
  EXPECT_EQ(ledger.find(kRoot, tokens).blocks, std::vector{a});
  EXPECT_TRUE(ledger.find(kRoot, tokens).pending);
  ledger.abandon(b);
  EXPECT_FALSE(ledger.find(kRoot, tokens).pending);
  ledger.drop({{a, b, c}});
  EXPECT_EQ(ledger.free(), 3);
  ledger.check(0);
}

// With three of its tokens wanted the whole pending block is of no more use than its copy would be.
TEST(BlockLedger, APendingBlockIsWaitedForOnlyIfItHasAllThatIsWanted) {
  BlockLedger ledger(4, 4);
  const Tokens tokens = counting(0, 4);
  const BlockId a = *ledger.allocate();
  ASSERT_TRUE(ledger.reserve(a, kRoot, tokens));
  EXPECT_TRUE(ledger.find(kRoot, part(tokens, 0, 3)).pending);
  EXPECT_FALSE(ledger.find(kRoot, Tokens{0, 1, 9}).pending);
  EXPECT_FALSE(ledger.find(kRoot, Tokens{}).pending);
}

TEST(BlockLedger, TheLaterOfTwoEqualBlocksAdoptsTheEarlier) {
  BlockLedger ledger(4, 4);
  const Tokens tokens = counting(0, 4);
  const BlockId first = chain(ledger, tokens)[0];
  const BlockId later = *ledger.allocate();
  EXPECT_EQ(ledger.publish(later, kRoot, tokens), first);
  ledger.add_reference(first);
  ledger.drop({{later}});
  ledger.check(2);
  EXPECT_EQ(ledger.free(), 3);
}

TEST(BlockLedger, ABlockOutsideTheIndexHasNoFindableSuccessors) {
  BlockLedger ledger(4, 4);
  const BlockId a = *ledger.allocate(), b = *ledger.allocate();
  EXPECT_FALSE(ledger.reserve(b, {kRoot.root, a}, counting(4, 4)));
  EXPECT_EQ(ledger.publish(b, {kRoot.root, a}, counting(4, 4)), kNoBlock);
  EXPECT_EQ(ledger.publish(a, kRoot, counting(0, 3)), a);  // not full
  EXPECT_EQ(ledger.publish(b, {kRoot.root, a}, counting(4, 4)), kNoBlock);
  ledger.check(2);
}

TEST(BlockLedger, APartlyFilledBlockIsContinuedInPlaceByItsOnlyOwner) {
  BlockLedger ledger(4, 4);
  const BlockId a = *ledger.allocate();
  EXPECT_EQ(ledger.publish(a, kRoot, counting(0, 2)), a);
  EXPECT_TRUE(ledger.may_write(a, 2));
  EXPECT_FALSE(ledger.may_write(a, 1));                        // promised
  EXPECT_TRUE(ledger.find(kRoot, counting(0, 4)).needs_copy);  // somebody counts it
  ledger.drop({{a}});
  const Prefix prefix = ledger.find(kRoot, counting(0, 4));
  EXPECT_EQ(prefix.tokens, 2);
  EXPECT_EQ(prefix.cached, 1);
  EXPECT_FALSE(prefix.needs_copy);
  ledger.share(prefix);
  EXPECT_EQ(ledger.publish(a, kRoot, counting(0, 4)), a);
  EXPECT_EQ(ledger.find(kRoot, counting(0, 4)).tokens, 4);
  ledger.check(1);
}

TEST(BlockLedger, OfSeveralContinuationsTheLongestIsTaken) {
  BlockLedger ledger(4, 4);
  const auto one = chain(ledger, {1, 9, 9, 9}), three = chain(ledger, {1, 2, 3, 9}),
             two = chain(ledger, {1, 2, 8, 9});
  const Prefix prefix = ledger.find(kRoot, Tokens{1, 2, 3, 4});
  EXPECT_EQ(prefix.blocks, three);
  EXPECT_EQ(prefix.tokens, 3);
}

TEST(BlockLedger, CopyOnWriteExchangesTheReference) {
  BlockLedger ledger(2, 4);
  const BlockId a = chain(ledger, counting(0, 4))[0];
  ledger.add_reference(a);
  EXPECT_FALSE(ledger.may_write(a, 3));
  const BlockId copy = *ledger.exchange_for_copy(a);
  EXPECT_NE(copy, a);
  EXPECT_TRUE(ledger.may_write(copy, 0));
  EXPECT_FALSE(ledger.is_shared(a));
  EXPECT_EQ(ledger.counters().copies, 1);
  EXPECT_FALSE(ledger.exchange_for_copy(a));  // all are used
  ledger.check(2);
}

TEST(BlockLedgerDeathTest, BrokenRulesAbort) {
  BlockLedger ledger(2, 4);
  const BlockId a = *ledger.allocate();
  EXPECT_DEATH(ledger.abandon(a), "check failed");
  ledger.reserve(a, kRoot, counting(0, 4));
  EXPECT_DEATH(ledger.drop({{a}}), "check failed");  // pending
  EXPECT_DEATH(ledger.check(2), "check failed");
  EXPECT_DEATH(ledger.add_reference(1 - a), "check failed");  // free
}

}  // namespace
}  // namespace fovea
