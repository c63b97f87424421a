// Goal: no address that leads back into this machine or its network passes for one of the open internet.
// Method: the ends of each special block and their neighbours outside.
#include "serve/address_rules.h"

#include <gtest/gtest.h>

namespace fovea {
namespace {

TEST(AddressRules, SpecialIpv4IsNotPublicAndItsNeighboursAre) {
  for (const char* inside :
       {"0.0.0.0",         "0.255.255.255", "10.0.0.0",        "10.255.255.255",  "100.64.0.0",
        "100.127.255.255", "127.0.0.1",     "127.255.255.255", "169.254.0.0",     "169.254.169.254",
        "169.254.255.255", "172.16.0.0",    "172.31.255.255",  "192.0.0.1",       "192.0.2.7",
        "192.88.99.1",     "192.168.0.0",   "192.168.255.255", "198.18.0.0",      "198.19.255.255",
        "198.51.100.1",    "203.0.113.255", "224.0.0.1",       "239.255.255.255", "240.0.0.0",
        "255.255.255.255"}) {
    EXPECT_FALSE(is_public_address(inside)) << inside;
  }
  for (const char* outside :
       {"1.0.0.0", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
        "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0",
        "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255", "8.8.8.8"}) {
    EXPECT_TRUE(is_public_address(outside)) << outside;
  }
}

TEST(AddressRules, OfIpv6OnlyOrdinaryUnicastIsPublic) {
  for (const char* inside : {"::",
                             "::1",
                             "::ffff:8.8.8.8",
                             "::ffff:127.0.0.1",
                             "::8.8.8.8",
                             "64:ff9b::8.8.8.8",
                             "64:ff9b:1::1",
                             "100::1",
                             "fc00::1",
                             "fd12:3456::1",
                             "fe80::1",
                             "fec0::1",
                             "ff02::1",
                             "2001::1",
                             "2001:1ff::",
                             "2001:db8::1",
                             "2001:db8:ffff:ffff::",
                             "2002:7f00:1::",
                             "3fff::1",
                             "1fff::1",
                             "4000::1"}) {
    EXPECT_FALSE(is_public_address(inside)) << inside;
  }
  for (const char* outside : {"2000::1", "2001:200::1", "2001:db7::1", "2001:db9::1", "2003::1",
                              "2606:4700::1111", "2a00:1450:4001::200e", "3ffe::1"}) {
    EXPECT_TRUE(is_public_address(outside)) << outside;
  }
}

TEST(AddressRules, WhatIsNoAddressIsNotPublic) {
  for (const char* text : {"", "localhost", "8.8.8", "0x8.8.8.8", "8.8.8.8 ", "[2000::1]", "2000::1%eth0"}) {
    EXPECT_FALSE(is_public_address(text)) << text;
    EXPECT_FALSE(is_address(text)) << text;
  }
  EXPECT_FALSE(is_public_address(std::span<const uint8_t>()));
}

}  // namespace
}  // namespace fovea
