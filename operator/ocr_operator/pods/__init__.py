"""The wire to inference pods: state up, live settings down."""
