// Templates as text for people.
#pragma once

#include <cleanfork/client.hpp>
#include <string>
#include <vector>

namespace cleanfork::cli {

// A line each, below a heading.
std::string template_table(const std::vector<template_info>& templates);

// "key: value" lines, with the last error and the end of standard error.
std::string template_details(const template_info& t);

// One line: what has become of it.
std::string template_summary(const template_info& t);

}  // namespace cleanfork::cli
