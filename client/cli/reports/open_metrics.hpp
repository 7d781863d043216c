// What a forkserver tells of itself as OpenMetrics text, which Prometheus and OpenTelemetry's
// collector read (https://prometheus.io/docs/specs/om/open_metrics_spec/).
#pragma once

#include <cleanfork/client.hpp>
#include <string>
#include <vector>

namespace cleanfork::cli {

inline constexpr const char* k_open_metrics_type =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

// Only so many templates have lines of their own, the first by name: whoever stores metrics pays
// for each label.
inline constexpr std::size_t k_metered_templates = 64;

std::string open_metrics(const server_stats& s, const std::vector<template_info>& templates);
// Of a forkserver that does not answer: that alone.
std::string open_metrics_of_none();

}  // namespace cleanfork::cli
