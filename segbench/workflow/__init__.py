"""What the rules ask: configuration, plan, cells, records, the table, the cluster."""
