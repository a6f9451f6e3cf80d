"""Classes of published datasets: names, colours and ids."""
